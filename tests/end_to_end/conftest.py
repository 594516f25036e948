"""One tiny database and its models for all tests of a method's whole commands."""

import pytest
from renderings import write_renderings
from toy import Toy


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """A folder with pictures, in which `python -m dass collect`, `meta-train` and `search` were run.

    Their run folders are `collect`, `meta` and `search`; the teacher of the unseen pictures is where search puts it.
    """
    toy = Toy.make(tmp_path_factory.mktemp("toy"))
    toy.do_alone("collect", "--out", "collect")
    toy.do_alone("meta-train", "--database", "collect/database", "--out", "meta")
    toy.do("search", "--data", "images/own", "--predictor", "meta/predictor.safetensors")
    return toy


@pytest.fixture(scope="session")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """The same for metad2a: a folder in which `collect`, `meta-train` of both models and `search` were run.

    Their run folders are `collect`, `pair/generator`, `pair/predictor` and the one that search takes.
    """
    toy = Toy.make(tmp_path_factory.mktemp("cells"), "metad2a")
    toy.do_alone("collect", "--out", "collect")
    for model in ("generator", "predictor"):
        toy.do("meta-train", "--model", model, "--database", "collect/database.safetensors", "--out", f"pair/{model}")
    toy.do("search", "--data", "images/own", "--pair", "pair")
    return toy


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """The same for mfkd: a folder in which `search` was run, which trained the teacher first."""
    toy = Toy.make(tmp_path_factory.mktemp("networks"), "mfkd")
    toy.do("search", "--data", "images/own")
    return toy


@pytest.fixture(scope="session")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """The same for dna: a folder in which `train-teacher`, `meta-train` and `search`, which rates, were run.

    Their run folders are the default ones.
    """
    toy = Toy.make(tmp_path_factory.mktemp("blocks"), "dna")
    for step in ("train-teacher", "meta-train", "search"):
        toy.do(step, "--data", "images/own")
    return toy


@pytest.fixture(scope="session")
def menagerie(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """The same for tans: a folder in which `build-zoo`, `meta-train` and `search` were run.

    Sources are four renderings of the digits 0 to 4 and 5 to 9; `images/unseen` are others, 3 to 7, in red.
    """
    toy = Toy.make(tmp_path_factory.mktemp("menagerie"), "tans")
    write_renderings(toy.folder / "images")
    toy.do("build-zoo", "--out", "build")
    toy.do("meta-train", "--out", "meta")
    toy.do("search", "--data", "images/unseen")
    return toy

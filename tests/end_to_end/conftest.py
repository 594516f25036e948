"""One tiny database and predictor for all tests of whole commands."""

import pytest
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

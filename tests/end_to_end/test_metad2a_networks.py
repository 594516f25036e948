"""MetaD2A over MobileNetV3 networks, whole commands at toy size: every step is real."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from toy import Toy, contents, write_digits

from common.data.tasks import open_task
from common.kd.evaluate import evaluate as measure
from common.spaces import MobileNetV3Space
from common.store.weights import load_weights, save_weights
from common.supernet import calibration_images, cut_subnet, load_supernet
from metad2a.artifacts import load_pair
from metad2a.database import load_database
from metad2a.networks import load_network
from metad2a.tasks import class_subset

SPACE = MobileNetV3Space(width_mult=0.1, first_stride=1)
CPU = torch.device("cpu")
SUPERNET, OWN = "supernet/supernet.safetensors", ("--data", "images/own")
ON_NETWORKS = ("--space", "mobilenetv3")
WEIGHTS = ("--supernet", SUPERNET)
SMALLEST, LARGEST = (SPACE.cost(arch, 5, 16).macs for arch in (SPACE.smallest, SPACE.largest))
BOUND = (SMALLEST + LARGEST) // 2
PRESET = """
train-supernet:
  data: images/turned
  resolution: 16
  network: {width_mult: 0.1, first_stride: 1}
  recipe: {epochs: 5, epoch_images: 256, batch_size: 32, optimizer: adamw, learning_rate: 0.01, validate_every: 5,
           flip: "no", padding: 1}
  shrinking: {kernels: [0.3, 0.3], depths: [0.3, 0.3], expansions: [0.3, 0.3], num_random: 1}
  num_calibration: 128
collect:
  data: images/turned
  drawing: {num_tasks: 6, num_valid_tasks: 2, min_classes: 2, max_classes: 4, num_networks: 10, num_valid_networks: 4}
  num_calibration: 128
meta-train:
  features: &features {extractor: random, max_per_class: 20}
  num_sample: 5
  latent_dim: 24
  generator: {hidden_dim: 24, num_targets: 1, cost_bins: 3, epochs: 60, batch_size: 6, learning_rate: 1.0e-2,
              schedule: cosine, validate_every: 20}
  predictor: {hidden_dim: 16, epochs: 6, batch_size: 4, learning_rate: 5.0e-3, cells_per_task: 4, target: task_rank}
search:
  data_root: nowhere
  features: *features
  generation: &generation {num_generated: 10, draws_per_batch: 5, graphs_per_draw: 10}
  top_k: 3
train:
  recipe: &recipe {epochs: 2, epoch_images: 128, batch_size: 16, learning_rate: 0.02, validate_every: 2, flip: "no",
                   padding: 1}
  seeds: [1, 2]
  num_random: 1
evaluate: {features: *features, generation: *generation, recipe: *recipe, num_random: 2, seeds: [1]}
"""


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """A folder in which the supernet, the database, the pair and a search on the user's own pictures were made."""
    toy = Toy.make(tmp_path_factory.mktemp("networks"), "metad2a")
    (toy.folder / "toy.yaml").write_text(PRESET)
    toy.do("train-supernet", "--out", "supernet")
    toy.do_alone("collect", *ON_NETWORKS, *WEIGHTS, "--out", "collect")
    for model in ("generator", "predictor"):
        database = ("--database", "collect/database.safetensors")
        toy.do("meta-train", *ON_NETWORKS, "--model", model, *database, "--out", f"pair/{model}")
    toy.do("search", *ON_NETWORKS, *OWN, "--pair", "pair", "--max-macs", BOUND, "--out", "found")
    return toy


def test_a_supernet_learns_and_its_file_says_what_was_measured(networks: Toy) -> None:
    stored, result = load_supernet(networks.folder / SUPERNET), networks.result("supernet")
    assert (stored.supernet.plan, stored.resolution, len(stored.class_names)) == (SPACE.plan, 16, 5)
    task = open_task(networks.folder / "images/turned", resolution=16)
    _, accuracy = measure(stored.supernet, task, device=CPU)
    assert accuracy == pytest.approx(result["accuracy"], abs=1e-6)
    assert result["accuracy"] > 0.4  # of five classes
    assert (networks.folder / "supernet/report.html").is_file()


def test_a_database_holds_networks_that_were_really_rated(networks: Toy) -> None:
    database = load_database(networks.folder / "collect/database.safetensors")
    learned, selecting = database.rows(valid=False), database.rows(valid=True)
    assert (len(learned), len(selecting)) == (60, 8)
    assert not {*database.archs(learned)} & {*database.archs(selecting)}
    supernet = load_supernet(networks.folder / SUPERNET).supernet
    whole = open_task(networks.folder / "images/turned", resolution=16)
    images = calibration_images(whole, 128, seed=0, device=CPU)
    for row in (0, 25, 59, 61):
        task, (arch,) = database.tasks[int(database.task_index[row])], database.archs(torch.tensor([row]))
        network, part = cut_subnet(supernet, arch, images), class_subset(whole, task.classes)
        kept = torch.tensor(task.classes)
        network.classifier[-1].weight.data = network.classifier[-1].weight.data[kept]
        network.classifier[-1].bias.data = network.classifier[-1].bias.data[kept]
        _, accuracy = measure(network, part, device=CPU)
        assert float(database.accuracy[row]) == pytest.approx(accuracy, abs=1e-6)


def test_a_collection_goes_on_where_it_stopped(networks: Toy, tmp_path: Path) -> None:
    shutil.copytree(networks.folder / "collect", tmp_path / "collect")
    for name in ("result.json", "database.safetensors", "ratings/learned/network-3.safetensors"):
        (tmp_path / "collect" / name).unlink()
    networks.do("collect", *ON_NETWORKS, *WEIGHTS, "--out", tmp_path / "collect")
    assert contents(tmp_path / "collect", "database*") == contents(networks.folder / "collect", "database*")


def test_a_search_under_a_bound_finds_networks_within_it(networks: Toy) -> None:
    result = networks.result("found")
    pair = load_pair(networks.folder / "pair")
    assert (result["space"], pair.generator.space) == (SPACE.name, SPACE)
    archs = [SPACE.parse(text) for text in result["candidates"]]
    assert len({*archs}) == 10
    assert max(SPACE.cost(arch, 5, 16).macs for arch in archs) <= BOUND
    best = max(range(10), key=result["scores"].__getitem__)
    assert result["chosen"][0]["arch"] == result["candidates"][best]
    assert result["measures"]["validity"] > 0.2
    page = (networks.folder / "found/report.html").read_text()
    assert "MACs" in page
    assert result["chosen"][0]["arch"] in page


def test_random_candidates_take_the_generators_place(networks: Toy) -> None:
    options = (*ON_NETWORKS, *OWN, "--pair", "pair", "--generation.candidates", "random", "--out", "random")
    networks.do("search", *options, "--max-macs", BOUND)
    result = networks.result("random")
    assert max(SPACE.cost(SPACE.parse(text), 5, 16).macs for text in result["candidates"]) <= BOUND
    assert not {*result["candidates"]} & {*networks.result("found")["candidates"]}


def test_the_pick_is_fine_tuned_from_inherited_weights(networks: Toy) -> None:
    arch = networks.result("found")["chosen"][0]["arch"]
    done = networks.do("train", *ON_NETWORKS, *WEIGHTS, *OWN, "--arch", arch, "--max-macs", BOUND, "--out", "tuned")
    result, task = networks.result("tuned"), open_task(networks.folder / "images/own", resolution=16)
    supernet = load_supernet(networks.folder / SUPERNET).supernet
    for seed, name in zip(("1", "2"), result["weights"], strict=True):
        trained = load_network(networks.folder / "tuned" / name)
        assert trained.arch == SPACE.parse(arch)
        assert trained.final_accuracy == result["final_accuracy"]["seeds"][seed]
        assert measure(trained.network, task, device=CPU)[1] == pytest.approx(trained.final_accuracy, abs=1e-6)
        ours = trained.network.state_dict()["first_conv.conv.weight"]
        theirs = supernet.state_dict()["first_conv.conv.weight"]
        fresh = SPACE.build(trained.arch, 5, 16).state_dict()["first_conv.conv.weight"]
        assert (ours - theirs).norm() < 0.5 * (ours - fresh).norm()  # it began there
    assert f"{100 * result['final_accuracy']['mean']:.2f} %" in done.out
    (other,) = result["random"]
    assert SPACE.cost(SPACE.parse(other["arch"]), 5, 16).macs <= BOUND


def test_searches_are_compared_with_random_networks_under_the_same_bounds(networks: Toy) -> None:
    options = (*ON_NETWORKS, *OWN, "--pair", "pair", *WEIGHTS, "--out", "compared")
    done = networks.do("evaluate", *options, "--max-macs", BOUND, LARGEST)
    result = networks.result("compared")
    assert [bound["max_macs"] for bound in result["bounds"]] == [BOUND, LARGEST]
    for bound in result["bounds"]:
        assert bound["macs"] <= bound["max_macs"]
        name = f"cell-macs{bound['max_macs']}"
        chosen = load_network(networks.folder / f"compared/{name}-chosen-seed1.safetensors")
        assert SPACE.format(chosen.arch) == bound["arch"]
        assert chosen.final_accuracy == bound["chosen"]["mean"]
        others = [
            load_network(networks.folder / f"compared/{name}-random{place}-seed1.safetensors") for place in (1, 2)
        ]
        values = [other.final_accuracy for other in others]
        assert bound["random"]["networks"] == values
        assert bound["place"] == 1 + sum(value > chosen.final_accuracy for value in values)
        largest = max(others, key=lambda other: SPACE.cost(other.arch, 5, 16).macs)
        assert bound["random_by_macs"] == largest.final_accuracy
        assert f"{100 * chosen.final_accuracy:.2f}" in done.out
    assert "Accuracy against MACs" in (networks.folder / "compared/report.html").read_text()


def other_width(networks: Toy) -> Path:
    """The supernet with a description of another width."""
    target = networks.folder / "wide.safetensors"
    weights, metadata = load_weights(networks.folder / SUPERNET)
    metadata.pop("format")
    save_weights(target, weights, metadata | {"supernet": metadata["supernet"].replace("0.1", "0.2")})
    return target


def of_search(*argv: object) -> tuple[object, ...]:
    return ("search", *ON_NETWORKS, *OWN, "--pair", "pair", "--out", "bad", *argv)


def of_training(*argv: object) -> tuple[object, ...]:
    return ("train", *ON_NETWORKS, *OWN, *WEIGHTS, "--out", "bad-train", *argv)


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (of_search("--max-macs", 1000), 1, f"the smallest has .* parameters and {SMALLEST:,} MACs at 16 pixels"),
        (of_search("--max-params", 0), 1, "max_params 0: a positive number or no bound"),
        (of_search("--max-macs", SMALLEST), 1, r"within the bounds.*--generation\.candidates random"),
        (of_search("--resolution", 18), 1, "resolution 18: .* multiples of 4"),
        (
            ("search", "--space", "nasbench201", *OWN, "--pair", "pair"),
            2,
            "pair is of .*stride1, and --space nasbench201",
        ),
        (of_training("--arch", "k3e3-k5e5"), 2, "architecture 'k3e3-k5e5': .*; one is like"),
        (of_training("--resolution", 30), 1, "resolution 30: .* multiples of 4"),
        (of_training("--arch", SPACE.format(SPACE.largest), "--max-macs", BOUND), 2, "search under this bound first"),
        (of_training("--supernet", "nowhere"), 1, "no weights file nowhere"),
        (of_training("--supernet", "pair/generator/generator.safetensors"), 1, "no supernet of MobileNetV3 networks"),
        (("collect", *ON_NETWORKS, *WEIGHTS, "--data", "digits", "--out", "bad"), 2, "give its own set"),
        (("collect", *ON_NETWORKS, *WEIGHTS, "--drawing.max-classes", 1, "--out", "bad"), 2, "max_classes 1"),
        (("train-supernet", "--resolution", 18, "--out", "bad"), 2, "multiples of 4"),
        (("train-supernet", "--teacher", "compact", "--out", "bad"), 2, "teacher compact with recipe.loss ce"),
        (("train-supernet", "--network.width-mult", -1, "--out", "bad"), 2, "width_mult -1.0"),
        (("train-supernet", "--shrinking.depths", 0.5, 0.1, "--out", "bad"), 2, "depths is 0.5 0.1"),
        (
            ("evaluate", *ON_NETWORKS, *OWN, *WEIGHTS, "--max-macs", 5, "--pair", "pair", "--out", "none"),
            1,
            "larger bound",
        ),
        (
            ("meta-train", "--space", "nasbench201", "--database", "collect/database.safetensors"),
            2,
            "--space nasbench201",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(argv: tuple[object, ...], code: int, says: str, networks: Toy) -> None:
    line = networks.run(*argv).error(code)
    assert re.search(says, line), line


def test_a_supernet_of_another_width_is_refused(networks: Toy) -> None:
    file = other_width(networks)
    line = networks.run(*of_training("--supernet", file, "--arch", SPACE.format(SPACE.smallest))).error(1)
    assert "does not fit its own description" in line


def test_one_class_and_empty_folders_are_refused(networks: Toy) -> None:
    write_digits(networks.folder / "single", "1", per_class=4)
    assert "single" in networks.run(*of_search("--data", "single")).error(1)

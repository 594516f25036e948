"""Seconds of TANS's meta-training: python -m bench.tans_training [--networks 14000] [--datasets 140].

CPU seconds of this process on one thread: a training step at batch 140 with all of the zoo in memory, one validation,
reading the zoo's tables, and the largest memory of the process. The zoo has random numbers in the official shapes
(topologies of 45 numbers, functional embeddings of 1,536), which changes no time.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from common.experiment.run import open_run
from tans.encoders import SpaceSizes, new_space
from tans.meta_training import SpaceLearning, load_resident, meta_train
from tans.zoo import Zoo, create_zoo, open_zoo
from tans.zoo_tables import DatasetRow, NetworkRow, QueryRow, ZooSettings

IMAGES = 113


def make_zoo(folder: Path, num_networks: int, num_datasets: int) -> Zoo:
    """A zoo of random numbers in the official shapes."""
    zoo = create_zoo(folder, ZooSettings(resolution=32, extractor="random"))
    draws = torch.Generator().manual_seed(0)
    names = [f"set{place:03d}" for place in range(num_datasets)]
    for name in names:
        about = {"name": name, "source": name, "class_names": ("a", "b"), "num_train": IMAGES, "num_evaluation": IMAGES}
        zoo.put_dataset(DatasetRow(**about, resolution=32))  # type: ignore[arg-type]
        for partition in ("train", "test"):
            counts, means = torch.tensor([IMAGES]), torch.rand(1, 512, generator=draws)
            zoo.put_query(
                QueryRow(dataset=name, partition=partition, extractor="random", counts=counts, class_means=means)
            )
    each = num_networks // num_datasets
    topologies = zoo.settings.space.topologies(zoo.settings.space.sample(num_networks, draws)).tolist()
    rows = [
        NetworkRow(
            dataset=names[place // each],
            topology=tuple(topologies[place]),
            key=str(place),
            num_params=1,
            macs=1,
            feature_dim=1536,
            accuracy=float(place % 100) / 100,
        )
        for place in range(each * num_datasets)
    ]
    zoo.add(rows, torch.randn(len(rows), 1536, generator=draws))
    return zoo


def report(name: str, run: Callable[[], object], repeats: int, divide: int = 1, official: str = "") -> None:
    """Print least and median CPU seconds, and the wall time of the median."""
    cpu, wall = [], []
    for _ in range(repeats):
        begin, began = time.process_time(), time.perf_counter()
        run()
        cpu.append((time.process_time() - begin) / divide)
        wall.append((time.perf_counter() - began) / divide)
    print(f"{name:<46} {min(cpu):>9.5f} {statistics.median(cpu):>9.5f} {statistics.median(wall):>9.5f} {official:>9}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=14_000)
    parser.add_argument("--datasets", type=int, default=140)
    parser.add_argument("--steps", type=int, default=100, help="timed together")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        make_zoo(Path(folder, "zoo"), args.networks, args.datasets).close()
        measure(Path(folder), args.steps)


def measure(folder: Path, steps: int) -> None:
    """All rows of the table."""
    space = new_space(SpaceSizes(), 0)
    quiet = SpaceLearning(steps=steps, validate_every=steps)
    print(f"{'part':<46} {'CPU s':>9} {'median':>9} {'wall':>9} {'official':>9}")
    with open_zoo(folder / "zoo") as zoo:
        report("reading the zoo's tables", zoo.table, 5, official="5.7")
        cpu = torch.device("cpu")
        report("the same, and describing its networks", lambda: load_resident(zoo, space, quiet, cpu), 3)
        resident = load_resident(zoo, space, quiet, cpu)
    runs = iter(range(1000))

    def train(learning: SpaceLearning) -> None:
        with open_run(folder / f"run{next(runs)}", program="bench", step="meta-train", config=learning) as run:
            meta_train(new_space(SpaceSizes(), 0), resident, learning, seed=0, run=run)

    train(quiet)
    report("training step, batch 140", lambda: train(quiet), 3, steps, official="0.36")
    every = SpaceLearning(steps=steps, validate_every=1)
    report("training step and validation (5 draws)", lambda: train(every), 2, steps, official="0.36")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"largest memory of the process: {peak:.0f} MiB (official 1,480 MB)")
    print("official: the released code's figures, on another machine; an epoch there is a step and an evaluation")


if __name__ == "__main__":
    main()

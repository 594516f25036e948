"""Seconds of the generator's and the predictor's parts: python -m bench.metad2a_models [PART ...].

CPU seconds of this process on one thread, the least and the median of several, and the median of wall seconds, at the
published sizes for NAS-Bench-201; features and cells are random and weights untrained, which changes no time. A part is
any piece of a row's name; without one all rows are timed.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import torch

from common.graphs import DagBatch, GraphDecoder, GraphSizes
from common.spaces.nasbench201 import NasBench201Space
from metad2a.generator import GeneratorSizes, new_generator
from metad2a.predictor import PredictorSizes, new_predictor

TASKS, CLASSES, IMAGES, FEATURES = 32, 20, 20, 512
KL_WEIGHT = 0.005
OFFICIAL = {
    "set encoder, 32 x 20 x 20": ("0.108", "0.075"),
    "set encoder, 10 draws x 10 x 20": ("", "0.0105"),
    "generator loss, 32 graphs": ("0.066", "0.005"),
    "generator training step, 32 x 20 x 20": ("0.364", "0.17"),
    "sample 100 graphs": ("0.111", "0.009"),
    "sample 500 graphs": ("0.55", "0.034"),
    "graph encoder, 32 graphs": ("0.045", "0.030"),
    "graph encoder, 500 graphs": ("0.53", "0.24"),
    "predictor training step, 32 x 20 x 20": ("0.41", ""),
    "score 500 cells, 10 draws x 10 x 20": ("24.6", "0.26"),
    "decoder step of 22 vertices, 32 graphs": ("", "0.085"),
    "sample 100 graphs of 22 vertices": ("1.08", ""),
}
"""CPU seconds of the released code, and of it batched, as the specification measured them on another machine."""
Part = tuple[str, Callable[[], object], int]


def report(name: str, run: Callable[[], object], repeats: int) -> None:
    """Print CPU and wall seconds of a call beside those of the released code; a first one warms up."""
    run()
    cpu, wall = [], []
    for _ in range(repeats):
        begin, began = time.process_time(), time.perf_counter()
        run()
        cpu.append(time.process_time() - begin)
        wall.append(time.perf_counter() - began)
    figures = (min(cpu), statistics.median(cpu), statistics.median(wall))
    official, batched = OFFICIAL[name]
    print(f"{name:<42} {' '.join(f'{value:>8.4f}' for value in figures)}  {official:>8} {batched:>8}", flush=True)


def without_gradients(run: Callable[[], object]) -> Callable[[], object]:
    return torch.no_grad()(run)


def cells(num: int) -> DagBatch:
    space = NasBench201Space()
    return space.graphs(space.sample(num, torch.Generator().manual_seed(0)))


def generator_parts() -> Iterator[Part]:
    """Rows of the generator."""
    generator, random = new_generator(GeneratorSizes(), 0), torch.Generator().manual_seed(0)
    features = torch.rand(TASKS, CLASSES, IMAGES, FEATURES, generator=random)
    ten_draws = torch.rand(10, 10, IMAGES, FEATURES, generator=random)
    graphs, latent = cells(TASKS), torch.randn(500, 56, generator=random)
    optimizer = torch.optim.Adam(generator.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        recon, kl = generator.loss(features, None, graphs, random)
        optimizer.zero_grad(set_to_none=True)
        (recon.sum() + KL_WEIGHT * kl.sum()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    encoder, decoder = generator.set_encoder, generator.decoder
    yield "set encoder, 32 x 20 x 20", without_gradients(lambda: encoder(features)), 15
    yield "set encoder, 10 draws x 10 x 20", without_gradients(lambda: encoder(ten_draws)), 30
    yield "generator loss, 32 graphs", without_gradients(lambda: decoder.loss(latent[:TASKS], graphs)), 50
    yield "generator training step, 32 x 20 x 20", step, 15
    yield "sample 100 graphs", lambda: decoder.sample(latent[:100], random), 30
    yield "sample 500 graphs", lambda: decoder.sample(latent, random), 30


def predictor_parts() -> Iterator[Part]:
    """Rows of the predictor."""
    predictor, random = new_predictor(PredictorSizes(), 0), torch.Generator().manual_seed(0)
    features = torch.rand(TASKS, CLASSES, IMAGES, FEATURES, generator=random)
    ten_draws = torch.rand(10, 10, IMAGES, FEATURES, generator=random)
    few, many, targets = cells(TASKS), cells(500), torch.randn(TASKS, generator=random) / 100
    optimizer = torch.optim.Adam(predictor.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        scores = predictor.score(predictor.encode_sets(features), predictor.encode_graphs(few))
        optimizer.zero_grad(set_to_none=True)
        (scores - targets).square().sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def search() -> None:
        predictor.score(predictor.encode_sets(ten_draws)[:, None], predictor.encode_graphs(many)).mean(0)

    yield "graph encoder, 32 graphs", without_gradients(lambda: predictor.encode_graphs(few)), 20
    yield "graph encoder, 500 graphs", without_gradients(lambda: predictor.encode_graphs(many)), 9
    yield "predictor training step, 32 x 20 x 20", step, 9
    yield "score 500 cells, 10 draws x 10 x 20", without_gradients(search), 9


def parts_of_22_vertices() -> Iterator[Part]:
    """Rows of the decoder at the sizes of MobileNetV3's graphs."""
    decoder = GraphDecoder(GraphSizes(num_types=29, max_nodes=22, hidden_dim=56), 56)
    random = torch.Generator().manual_seed(0)
    latent = torch.randn(100, 56, generator=random)
    types = torch.randint(2, 29, (TASKS, 22), generator=random)
    types[:, 0], types[:, -1] = 0, 1
    path = torch.ones(22, 22, dtype=torch.bool).triu(1).tril(1).repeat(TASKS, 1, 1)
    graphs = DagBatch(types, path, torch.full((TASKS,), 22))
    optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        loss = decoder.loss(latent[:TASKS], graphs).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    yield "decoder step of 22 vertices, 32 graphs", step, 15
    yield "sample 100 graphs of 22 vertices", lambda: decoder.sample(latent, random), 9


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="pieces of the names of rows to time")
    wanted = parser.parse_args().parts
    torch.set_num_threads(1)
    print(f"{'seconds, one thread':<42} {'CPU':>8} {'median':>8} {'wall':>8}  {'official':>8} {'batched':>8}")
    for rows in (generator_parts, predictor_parts, parts_of_22_vertices):
        for name, run, repeats in rows():
            if not wanted or any(piece in name for piece in wanted):
                report(name, run, repeats)
    print("official, batched: the released code as it is and batched, on another machine")


if __name__ == "__main__":
    main()

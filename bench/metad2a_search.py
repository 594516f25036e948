"""Seconds of a whole MetaD2A search: python -m bench.metad2a_search [--repeats 5].

CPU seconds of this process on one thread, the least and the median of several, and the median of wall seconds, from
cached features to ranked cells, with the shipped pairs: 500 distinct cells are generated, then scored on 10 draws. The
settings are those of configs/metad2a/cpu.yaml; "published draws" encodes a fresh draw of images for every graph, as the
release does. The predictor of the published width has untrained weights, which changes no time. Features come from the
data root (NAS_DATA) and are computed first where they are not in exp/features; without the sets, random ones take their
place.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from common.experiment.config import parse_config
from common.experiment.seeds import generator
from common.features.sets import FeatureSet
from metad2a.__main__ import STEPS
from metad2a.draws import open_sets
from metad2a.generation import Generation, generate
from metad2a.pairs import choose_pair
from metad2a.predictor import PredictorSizes, new_predictor
from metad2a.ranking import draw_to_score, rank
from metad2a.scoring import score_archs
from metad2a.search import SearchConfig

PRESET = Path(__file__).resolve().parents[1] / "configs/metad2a/cpu.yaml"
NUM_CELLS, NUM_DRAWS, PUBLISHED_WIDTH = 500, 10, 512
OFFICIAL = {
    "generate 500 distinct cells, published draws": ("2.2", ""),
    "score 500 cells, 512 wide": ("24.6", "98"),
    "whole search": ("27", "100"),
}
"""Row -> CPU seconds of the released code for CIFAR-10 and CIFAR-100, as the specification measured them."""


def report(dataset: str, name: str, run: Callable[[int], object], repeats: int) -> None:
    """Print the times of a call beside the released code's; a first one warms up. Every call has a seed of its own."""
    run(0)
    cpu, wall = [], []
    for seed in range(1, 1 + repeats):
        begin, began = time.process_time(), time.perf_counter()
        run(seed)
        cpu.append(time.process_time() - begin)
        wall.append(time.perf_counter() - began)
    official = OFFICIAL.get(name, ("", ""))[dataset == "cifar100"]
    figures = (min(cpu), statistics.median(cpu), statistics.median(wall))
    shown = " ".join(f"{value:>8.3f}" for value in figures)
    print(f"{dataset:<10} {name:<46} {shown} {official:>9}", flush=True)


def features_of(cfg: SearchConfig, name: str, num_classes: int) -> FeatureSet:
    """Cached features of a set, or random ones of its shape where the set is not there."""
    device = torch.device("cpu")
    try:
        return open_sets((name,), cfg.features, cfg=cfg, device=device)[name]
    except FileNotFoundError as error:
        print(f"{name}: random features ({error})")
    labels = torch.arange(num_classes).repeat_interleave(100)
    return FeatureSet(
        extractor="none",
        source=name,
        description=name,
        features=torch.rand(len(labels), 512),
        labels=labels,
        class_names=tuple(map(str, range(num_classes))),
    )


def measure(cfg: SearchConfig, name: str, num_classes: int, repeats: int) -> None:
    """All rows of one dataset."""
    features, pair, device = features_of(cfg, name, num_classes), choose_pair(None, name), torch.device("cpu")
    wide = new_predictor(PredictorSizes(hidden_dim=PUBLISHED_WIDTH), 0).eval()
    published = Generation(num_generated=NUM_CELLS)

    def draw(num: int, random: torch.Generator) -> torch.Tensor:
        return features.draw(num, pair.generator.num_sample, random)

    cells = generate(pair.generator.model, draw, cfg.generation, generator(0, "cells"), view=pair.generator.view).archs

    def grow(plan: Generation) -> Callable[[int], object]:
        return lambda seed: generate(
            pair.generator.model, draw, plan, generator(seed, "generate"), view=pair.generator.view
        )

    def score(seed: int, model: torch.nn.Module = wide) -> object:
        return score_archs(model, draw_to_score(pair, features, NUM_DRAWS, seed), pair.generator.space, cells)  # type: ignore[arg-type]

    def search(seed: int) -> object:
        return rank(pair, features, generation=cfg.generation, num_draws=NUM_DRAWS, seed=seed, device=device)

    report(name, f"generate {NUM_CELLS} distinct cells", grow(cfg.generation), repeats)
    report(name, f"generate {NUM_CELLS} distinct cells, published draws", grow(published), max(1, repeats // 2))
    narrow = pair.predictor.model
    width = narrow.sizes.hidden_dim
    report(name, f"score {NUM_CELLS} cells, {width} wide", lambda seed: score(seed, narrow), repeats)
    report(name, f"score {NUM_CELLS} cells, {PUBLISHED_WIDTH} wide", score, repeats)
    report(name, "whole search", search, repeats)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of a row")
    args = parser.parse_args()
    torch.set_num_threads(1)
    preset = ["--config", str(PRESET)]
    cfg = parse_config(SearchConfig, preset, program="bench", step="search", steps=list(STEPS))
    print(f"{'dataset':<10} {'part':<46} {'CPU':>8} {'median':>8} {'wall':>8} {'official':>9}")
    for name, num_classes in (("cifar10", 10), ("cifar100", 100)):
        measure(cfg, name, num_classes, args.repeats)
    print("official: CPU s of the released code, on another machine; its whole search adds the parts")


if __name__ == "__main__":
    main()

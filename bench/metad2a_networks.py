"""Seconds of MetaD2A's parts over MobileNetV3 networks: python -m bench.metad2a_networks [--repeats 5].

CPU seconds of this process on one thread, least and median of several, beside the released code's. Weights are
untrained, which changes no time; models have the published widths (56 and 512), the supernets width 1.2, 1.0 and 0.35.
Scoring: 10 draws of 100 classes x 20 images are encoded once, then 200 networks are scored on them. Memory is the
growth of this process's peak while such draws are scored.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import torch

from common.experiment.seeds import generator
from common.spaces import MobileNetV3Space, MobileNetV3Supernet
from metad2a.generator import GeneratorSizes, new_generator
from metad2a.predictor import PredictorSizes, new_predictor
from metad2a.scoring import score_archs
from metad2a.spaces import VIEWS

VIEW = VIEWS["mobilenetv3"]
SIZES = {"num_types": VIEW.num_types, "max_nodes": VIEW.num_vertices}
NUM_DRAWS, NUM_CLASSES, NUM_IMAGES, NUM_NETWORKS = 10, 100, 20, 200


def report(name: str, run: Callable[[int], object], repeats: int, official: str = "", each: int = 1) -> None:
    """Print the times of a call, or of each of the things that it does; a first call warms up."""
    run(0)
    cpu = []
    for seed in range(1, 1 + repeats):
        begin = time.process_time()
        run(seed)
        cpu.append((time.process_time() - begin) / each)
    print(f"{name:<58} {min(cpu):>9.4f} {statistics.median(cpu):>9.4f} {official:>9}", flush=True)


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of a row")
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    print(f"{'part':<58} {'CPU':>9} {'median':>9} {'official':>9}")
    space = MobileNetV3Space()
    archs = space.sample(20 * (1 + repeats), generator(0, "archs"))
    for width, official in ((1.2, "0.045"), (1.0, ""), (0.35, "")):
        supernet = MobileNetV3Supernet(MobileNetV3Space(width_mult=width).plan, 1000).eval()

        def cut(seed: int, supernet: MobileNetV3Supernet = supernet) -> None:
            for arch in archs[20 * seed : 20 * seed + 20]:
                supernet.cut(arch)

        report(f"cut a network out of a supernet of width {width}", cut, repeats, official, each=20)
    grower = new_generator(GeneratorSizes(**SIZES), 0).eval()
    latent = torch.randn(100, 56)
    report("decode 100 graphs", lambda seed: grower.decoder.sample(latent, generator(seed, "g")), repeats, "1.08")
    draws = torch.rand(NUM_DRAWS, NUM_CLASSES, NUM_IMAGES, 512)
    networks = space.sample(NUM_NETWORKS, generator(0, "scored"))
    before = peak_mib()
    for width in (128, 512):
        predictor = new_predictor(PredictorSizes(hidden_dim=width, **SIZES), 0).eval()

        def encode(seed: int, predictor: torch.nn.Module = predictor) -> None:
            with torch.inference_mode():
                predictor.encode_sets(draws)  # type: ignore[operator]

        def score(seed: int, predictor: torch.nn.Module = predictor) -> None:
            score_archs(predictor, draws[:1, :2], space, networks)  # type: ignore[arg-type]  # hardly any set

        report(f"encode {NUM_DRAWS} draws of {NUM_CLASSES} classes, once a search", encode, repeats)
        report(f"score a network, {width} wide", score, repeats, "7.3", each=NUM_NETWORKS)
        score_archs(predictor, draws, space, networks)
    print(f"memory: {peak_mib() - before:,.0f} MiB more at the peak (official: 4,100), {peak_mib():,.0f} in all")


if __name__ == "__main__":
    main()

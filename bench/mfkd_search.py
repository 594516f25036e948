"""Seconds of the searches of MFKD: python -m bench.mfkd_search [--data-root DIR].

One row for each part: CPU seconds of this process on one thread, the least of three, and the MiB by which it raised the
peak of resident memory so far. The baseline is scikit-learn that predicts the same space in pieces of 65,536 rows of
features. With the published evaluations (in DIR/mfkd or beside DIR), searches on them follow.
"""

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

from common.spaces import MobileNetV2Space, SimpleCnnSpace
from mfkd.acquisition import choose
from mfkd.cokriging import fit_cokriging
from mfkd.config import Mfkd1Config, StepConfig
from mfkd.domain import Domain, PoolDomain, ProductDomain, predict_everywhere
from mfkd.gaussian_process import Array, fit_legacy, fit_wellposed
from mfkd.tables import Setting, load_tables
from mfkd.tabular import repeat_mfkd1, repeat_mfkd2

OFFICIAL = {
    "construct the 2,097,152-point space": "5.2 s, 1.48 GiB",
    "fit 30 points, legacy, 4 starts": "0.011-0.016 s",
    "MFKD1 winner of 2,097,152, 30 points": "4.9 s, 2.67 GiB",
    "scikit-learn in pieces": "1.9 s, 0.31 GiB",
    "MFKD2 proposal, 5 points": "1.3-1.9 s",
    "MFKD2 proposal, 9 points": "1.3-1.9 s",
    "construct the 233,280-point space": "0.64 s",
    "MFKD1 winner of 233,280, 30 points": "0.83 s, 0.39 GiB",
    "algorithm 1, 2 x 1000 trials, legacy": "13.0 s",
    "algorithm 2, 100 trials, high only, legacy": "3.2 s",
    "algorithm 2, 100 trials, legacy": "7 s",
    "co-kriging 100 + 20 over 15,625": "BoTorch 5.0 s, 2.5 GiB",
}
"""Measured for the specification on another machine: the released code, unless another one is named."""
_PIECE = 65_536


def report(name: str, run: Callable[[], object], repeats: int = 3) -> None:
    """Print the least CPU seconds of a call and the growth of peak memory."""
    before, spent = peak_mib(), []
    for _ in range(repeats):
        begin = time.process_time()
        run()
        spent.append(time.process_time() - begin)
    print(f"{name:<44} {min(spent):>8.4f} {peak_mib() - before:>8.0f}  {OFFICIAL.get(name, '')}", flush=True)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def observations(domain: Domain, num: int) -> tuple[list[int], Array, Array]:
    """Points, their features and made-up accuracies."""
    random = np.random.default_rng(0)
    points = random.choice(domain.size, num, replace=False).tolist()
    features = domain.features(points)
    linear = features @ random.uniform(0.2, 1, features.shape[1])
    return points, features, 0.5 + 0.01 * linear + 0.01 * random.normal(size=num)


def winner(domain: Domain, num: int) -> Callable[[], object]:
    _, features, accuracies = observations(domain, num)

    def run() -> None:
        process = fit_wellposed(features, accuracies)
        choice = choose(domain.predict(process, with_std=False), 0.0, np.random.default_rng(0))
        process.predict(domain.features([choice.point]))

    return run


def proposal(domain: Domain, num: int) -> Callable[[], object]:
    points, features, accuracies = observations(domain, num)
    return lambda: choose(domain.predict(fit_wellposed(features, accuracies)), 0.5, np.random.default_rng(0), points)


def in_pieces(domain: Domain, num: int) -> Callable[[], object]:
    _, features, accuracies = observations(domain, num)

    def run() -> None:
        process = GaussianProcessRegressor(RBF(1.0)).fit(features, accuracies)
        for first in range(0, domain.size, _PIECE):
            rows = domain.features(range(first, min(first + _PIECE, domain.size)))
            process.predict(rows, return_std=True)

    return run


def on_spaces() -> None:
    """Rows of whole spaces."""
    report("construct the 2,097,152-point space", lambda: ProductDomain(MobileNetV2Space().grid.scaled_levels))
    mobilenet = ProductDomain(MobileNetV2Space().grid.scaled_levels)
    _, features, accuracies = observations(mobilenet, 30)
    process, random = fit_wellposed(features, accuracies), np.random.default_rng(0)
    report("fit 30 points, wellposed", lambda: fit_wellposed(features, accuracies))
    report(
        "fit 30 points, legacy, 4 starts",
        lambda: fit_legacy(features, accuracies, scaling="centre", num_restarts=3, random=random),
    )
    report("MFKD1 winner of 2,097,152, 30 points", winner(mobilenet, 30))
    for num in (5, 9):
        report(f"MFKD2 proposal, {num} points", proposal(mobilenet, num))
    report("MFKD2 proposal, 100 points", proposal(mobilenet, 100))
    report("all means, 30 points", lambda: [block.mean.max() for block in mobilenet.predict(process, with_std=False)])
    report("all means and deviations, 30 points", lambda: predict_everywhere(mobilenet, process))
    report("construct the 233,280-point space", lambda: ProductDomain(SimpleCnnSpace().grid.scaled_levels))
    cnn = ProductDomain(SimpleCnnSpace().grid.scaled_levels)
    report("MFKD1 winner of 233,280, 30 points", winner(cnn, 30))
    cells = PoolDomain(np.eye(5)[random.integers(5, size=(15_625, 6))].reshape(15_625, 30))
    _, features, accuracies = observations(cells, 100)
    rows = range(20)

    def cokriging() -> object:
        model = fit_cokriging(features, accuracies, rows, accuracies[:20] + 0.1)
        return choose(model.over(cells), 0.5, random)

    report("co-kriging 100 + 20 over 15,625", cokriging)
    report("scikit-learn in pieces", in_pieces(mobilenet, 30), repeats=1)


def on_tables(data_root: Path) -> None:
    """Rows of searches on the published evaluations."""
    table = load_tables(data_root)["cifar100", "mobilenet"]
    kd, nst = Setting("kd", 27), Setting("nst", 9)

    def algorithm_1() -> None:
        for setting in (Setting("nokd", 27), kd):
            repeat_mfkd1(table, setting, Mfkd1Config(gp="legacy"), range(1000))

    report("algorithm 1, 2 x 1000 trials, legacy", algorithm_1, repeats=1)
    legacy, wellposed = StepConfig(gp="legacy"), StepConfig()
    hundred = range(100)
    report("algorithm 2, 100 trials, high only, legacy", lambda: repeat_mfkd2(table, None, legacy, hundred), repeats=1)
    report("algorithm 2, 100 trials, legacy", lambda: repeat_mfkd2(table, nst, legacy, hundred), repeats=1)
    report("algorithm 2, 100 trials, wellposed", lambda: repeat_mfkd2(table, nst, wellposed, hundred), repeats=1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, help="folder with mfkd/ in it or beside it")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'one thread (set OMP_NUM_THREADS=1)':<44} {'CPU s':>8} {'MiB':>8}  official, on another machine")
    on_spaces()
    if args.data_root is not None:
        on_tables(args.data_root)


if __name__ == "__main__":
    main()

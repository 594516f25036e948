"""Steps `zoo list`, `zoo show` and `zoo verify`: look into a zoo."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from common.experiment.config import StepConfig
from common.experiment.files import write_json
from tans.networks import arch_of
from tans.shipped import default_zoo
from tans.zoo import open_zoo
from tans.zoo_tables import NetworkRow
from tans.zoo_verify import verify


@dataclass(frozen=True, kw_only=True)
class ListConfig(StepConfig):
    """List the datasets of a zoo, or its networks."""

    zoo: Path | None = None
    """Folder of the zoo; none takes the one that was built here, else the shipped one."""
    dataset: str | None = None
    """List the networks of this dataset; `all` lists all."""


@dataclass(frozen=True, kw_only=True)
class ShowConfig(StepConfig):
    """Show all that a zoo knows of one network."""

    network: int
    """Its id."""
    zoo: Path | None = None
    """Folder of the zoo; none takes the one that was built here, else the shipped one."""


@dataclass(frozen=True, kw_only=True)
class VerifyConfig(StepConfig):
    """Check that a zoo is whole; exit code 1 where it is not."""

    zoo: Path | None = None
    """Folder of the zoo; none takes the one that was built here, else the shipped one."""
    recompute: int = 10
    """Networks whose functional embedding is computed anew and compared."""

    def __post_init__(self) -> None:
        """Check the number."""
        if self.recompute < 0:
            raise ValueError(f"recompute is {self.recompute}; it must be 0 or more")


def list_zoo(cfg: ListConfig) -> None:
    """Run `zoo list`.

    Raises:
        FileNotFoundError: there is no such zoo.
        ValueError: it has no such dataset.
    """
    with open_zoo(cfg.zoo or default_zoo()) as zoo:
        if cfg.dataset is None:
            _list_datasets(zoo.networks(), {name: row.source for name, row in zoo.datasets().items()})
            settings = zoo.settings
            print(
                f"result: {len(zoo):,} networks in {zoo.folder} ({settings.space.name}, {settings.resolution} px, "
                f"features of {settings.extractor}, probe {settings.probe})"
            )
            return
        rows = zoo.networks() if cfg.dataset == "all" else zoo.networks("dataset = ?", [cfg.dataset])
        if not rows:
            raise ValueError(f"{zoo.folder} has no networks of {cfg.dataset}: it has {', '.join(zoo.datasets())}")
        print(f"{'id':>6} {'accuracy':>9} {'parameters':>11} {'MACs':>13}  network")
        for row in rows:
            print(f"{row.id:>6} {100 * row.accuracy:>7.1f} % {row.num_params:>11,} {row.macs:>13,}  {_name(row)}")
        print(f"result: {len(rows):,} networks; parameters and MACs are without classifiers")


def _list_datasets(rows: list[NetworkRow], sources: Mapping[str, str]) -> None:
    width = max([7, *map(len, sources)])
    print(f"{'dataset':<{width}} {'networks':>8} {'worst':>7} {'mean':>7} {'best':>7}  source")
    for name, source in sources.items():
        accuracies = torch.tensor([row.accuracy for row in rows if row.dataset == name])
        if len(accuracies) == 0:
            print(f"{name:<{width}} {0:>8} {'-':>7} {'-':>7} {'-':>7}  {source}")
            continue
        values = (accuracies.min(), accuracies.mean(), accuracies.max())
        shown = " ".join(f"{100 * float(value):>5.1f} %" for value in values)
        print(f"{name:<{width}} {len(accuracies):>8} {shown}  {source}")


def _name(row: NetworkRow) -> str:
    return f"{row.family}, {row.supernet or row.weights_file or 'figures only'}"


def show(cfg: ShowConfig) -> None:
    """Run `zoo show`.

    Raises:
        FileNotFoundError: there is no such zoo.
        UsageError: it has no such network.
    """
    with open_zoo(cfg.zoo or default_zoo()) as zoo:
        row = zoo.network(cfg.network)
        facts = {name: value for name, value in asdict(row).items() if value not in ("", None) and name != "details"}
        if row.topology is not None:
            facts["architecture"] = zoo.settings.space.format(arch_of(row, zoo.settings))
        for name, value in (facts | row.details).items():
            print(f"{name.replace('_', ' '):<18} {value}")
        vector = zoo.functional([row.id])[0]
        print(f"{'embedding':<18} {len(vector)} numbers, norm {float(vector.norm()):.2f}")


def verify_zoo(cfg: VerifyConfig) -> None:
    """Run `zoo verify`.

    Raises:
        FileNotFoundError: there is no such zoo.
        RuntimeError: it is not whole; every problem is on stdout.
    """
    with open_zoo(cfg.zoo or default_zoo()) as zoo:
        problems = verify(zoo, cfg.recompute)
        if cfg.out is not None:
            write_json(cfg.out / "verify.json", {"zoo": str(zoo.folder), "problems": problems})
        for problem in problems:
            print(problem)
        if problems:
            raise RuntimeError(f"{zoo.folder} has {len(problems)} problem{'s' if len(problems) > 1 else ''}, see above")
        print(f"result: {len(zoo):,} networks of {zoo.folder} are whole, {min(cfg.recompute, len(zoo))} computed anew")

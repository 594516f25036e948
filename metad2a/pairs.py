"""Which generator and predictor search on a dataset, and whether they can."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path

from common.experiment.config import UsageError
from metad2a.artifacts import Pair, load_pair
from metad2a.shipped import SHIPPED_PAIRS
from metad2a.spaces import SpaceName

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ModelSizes:
    """Widths that the pair's models must have; none takes any. The released code takes hs and nz as flags."""

    generator_hidden_dim: int | None = None
    """Of the generator's states."""
    predictor_hidden_dim: int | None = None
    """Of the predictor's states."""
    latent_dim: int | None = None
    """Of the vectors of datasets, in both."""


def choose_pair(folder: Path | None, task: str, space: SpaceName | None = None) -> Pair:
    """The pair asked for, with a warning where it has seen the dataset; else the first shipped one that has not.

    Args:
        folder: of a pair, or None.
        task: id of the dataset.
        space: of the architectures; None takes that of the folder, or NAS-Bench-201.

    Raises:
        UsageError: every shipped pair has seen it, or the folder's is of another space.
        FileNotFoundError, RuntimeError: as `load_pair`.
    """
    if folder is not None:
        pair = load_pair(folder)
        if space is not None and pair.generator.view.name != space:
            raise UsageError(f"{folder} is of {pair.generator.space_name}, and --space {space} is asked for")
        if pair.has_seen(task):
            _LOG.warning(
                "%s learned from %s: this is no search on an unseen dataset, and its result says nothing about one",
                folder,
                ", ".join(pair.sources),
            )
        return pair
    pairs = [load_pair(shipped) for shipped in SHIPPED_PAIRS[space or "nasbench201"]]
    for pair in pairs:
        if not pair.has_seen(task):
            return pair
    raise UsageError(
        f"every shipped pair ({', '.join(pair.folder.name for pair in pairs)}) has learned from "
        f"{task.partition('/')[0]}: meta-train one on other sources with `python -m metad2a collect` and `meta-train`, "
        "or take one all the same with --pair FOLDER"
    )


def check_sizes(pair: Pair, sizes: ModelSizes) -> None:
    """Refuse models of other widths than asked for.

    Raises:
        UsageError: naming the model, its width and the one asked for.
    """
    of_generator, of_predictor = pair.generator.model.sizes, pair.predictor.model.sizes
    found = {
        ("generator", "hidden_dim (hs)"): (of_generator.hidden_dim, sizes.generator_hidden_dim),
        ("predictor", "hidden_dim (hs)"): (of_predictor.hidden_dim, sizes.predictor_hidden_dim),
        ("generator", "latent_dim (nz)"): (of_generator.latent_dim, sizes.latent_dim),
        ("predictor", "latent_dim (nz)"): (of_predictor.embedding_dim, sizes.latent_dim),
    }
    for (model, name), (there, asked) in found.items():
        if asked is not None and there != asked:
            raise UsageError(
                f"the {model} of {pair.folder} has {name} {there}, and {asked} is asked for: leave the flag out, give "
                f"another --pair, or meta-train a {model} of this size"
            )


def check_extractor(pair: Pair, found: str) -> None:
    """Refuse features of another network than the one that the pair was meta-trained on.

    Args:
        pair: the models.
        found: id of the features' extractor. An imported checkpoint or feature file knows the network's name only, and
            then that has to agree.

    Raises:
        UsageError: naming both, and the flag that helps.
    """
    wanted = pair.generator.extractor
    if wanted != found and ((_has_digest(wanted) and _has_digest(found)) or _name(wanted) != _name(found)):
        raise UsageError(
            f"{pair.folder} was meta-trained on features of {wanted}, and these are of {found}: give "
            f"--features.extractor {_name(wanted)} (with --features.weights where its weights are not the ones of that "
            "name), or another --pair"
        )


def _has_digest(extractor: str) -> bool:
    return re.fullmatch(r".+-[0-9a-f]{8}", extractor) is not None


def _name(extractor: str) -> str:
    return extractor.rpartition("-")[0] if _has_digest(extractor) else extractor

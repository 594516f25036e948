"""Files of features that came from the released code, in place of images.

Source: released code of Lee et al., ICLR 2021 (one file a dataset, features by class).
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from common.experiment.names import slug
from common.features.sets import FeatureSet
from common.store.weights import load_weights, save_weights

_KIND = "metad2a-features"


def features_path(folder: Path, source: str) -> Path:
    """File of a dataset in a folder of imported features."""
    return folder / f"{slug(source)}.safetensors"


def save_features(path: Path, by_class: Sequence[Tensor], *, extractor: str, source: str) -> None:
    """Write features of each class, (n, D) of n images.

    Args:
        path: the file to replace.
        by_class: class after class.
        extractor: name of the network that they come from.
        source: what the dataset is called.
    """
    counts = torch.tensor([len(values) for values in by_class])
    tensors = {"features": torch.cat(list(by_class)), "labels": torch.arange(len(by_class)).repeat_interleave(counts)}
    save_weights(
        path, tensors, {"kind": _KIND, "extractor": extractor, "source": source, "classes": str(len(by_class))}
    )


def load_features(path: Path) -> FeatureSet:
    """Read what `save_features` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it is damaged or holds something else.
    """
    tensors, metadata = load_weights(path)
    if metadata.get("kind") != _KIND:
        raise RuntimeError(
            f"{path} holds {metadata.get('kind', 'plain weights')!r}, no imported features: bring released ones in "
            "with `python -m metad2a import-official`"
        )
    return FeatureSet(
        extractor=metadata["extractor"],
        source=metadata["source"],
        description=f"{metadata['source']}, imported features",
        features=tensors["features"].float(),
        labels=tensors["labels"],
        class_names=tuple(f"class {label}" for label in range(int(metadata["classes"]))),
    )

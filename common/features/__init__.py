"""Frozen image features: extractors, sets of features by class, their cache, and the network that we ship."""

from common.features.cache import features_of
from common.features.extractors import EXTRACTORS, Extractor, embed, load_extractor
from common.features.sets import FeatureSet

__all__ = ["EXTRACTORS", "Extractor", "FeatureSet", "embed", "features_of", "load_extractor"]

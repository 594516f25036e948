"""Search spaces: sample, parse, encode, build, cost."""

from common.spaces.base import Cost, SearchSpace
from common.spaces.resnet import ResNetArch, ResNetSpace
from common.spaces.resnet_network import ResidualNetwork
from common.spaces.sampling import sample_distinct

__all__ = ["Cost", "ResNetArch", "ResNetSpace", "ResidualNetwork", "SearchSpace", "sample_distinct"]

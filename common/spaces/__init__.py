"""Search spaces: sample, parse, encode, build, cost."""

from common.spaces.base import Cost, SearchSpace
from common.spaces.grid import Axis, Grid, draw_indices, grid_of
from common.spaces.grid_space import GridSpace
from common.spaces.mobilenet_v2 import DEFAULT_MOBILENET_V2, MobileNetV2Arch, MobileNetV2Space
from common.spaces.mobilenet_v2_free import FreeMobileNetV2Space
from common.spaces.mobilenet_v2_network import MobileNetV2, MobileNetV2Plan
from common.spaces.mobilenet_v3 import MobileNetV3Space
from common.spaces.mobilenet_v3_arch import MobileNetV3Arch
from common.spaces.mobilenet_v3_network import MobileNetV3
from common.spaces.mobilenet_v3_plan import MobileNetV3Plan
from common.spaces.mobilenet_v3_supernet import MobileNetV3Supernet
from common.spaces.nasbench201 import Cell, NasBench201Space
from common.spaces.nasbench201_classes import canonical_edges, canonical_text, is_connected
from common.spaces.nasbench201_network import CellNetwork
from common.spaces.nasbench201_table import AccuracyTable, load_table
from common.spaces.norms import estimate_norms
from common.spaces.pool import Pool, read_mobilenet_pool, read_shufflenet_pool
from common.spaces.resnet import ResNetArch, ResNetSpace
from common.spaces.resnet_network import ResidualNetwork
from common.spaces.sampling import sample_distinct, within_bounds
from common.spaces.shufflenet_v2 import ShuffleNetV2Arch, ShuffleNetV2Space
from common.spaces.shufflenet_v2_network import ShuffleNetV2
from common.spaces.simple_cnn import CnnArch, CnnLayerOptions, SimpleCnnSpace
from common.spaces.simple_cnn_network import CnnLayer, SimpleCnn

__all__ = [
    "DEFAULT_MOBILENET_V2",
    "AccuracyTable",
    "Axis",
    "Cell",
    "CellNetwork",
    "CnnArch",
    "CnnLayer",
    "CnnLayerOptions",
    "Cost",
    "FreeMobileNetV2Space",
    "Grid",
    "GridSpace",
    "MobileNetV2",
    "MobileNetV2Arch",
    "MobileNetV2Plan",
    "MobileNetV2Space",
    "MobileNetV3",
    "MobileNetV3Arch",
    "MobileNetV3Plan",
    "MobileNetV3Space",
    "MobileNetV3Supernet",
    "NasBench201Space",
    "Pool",
    "ResNetArch",
    "ResNetSpace",
    "ResidualNetwork",
    "SearchSpace",
    "ShuffleNetV2",
    "ShuffleNetV2Arch",
    "ShuffleNetV2Space",
    "SimpleCnn",
    "SimpleCnnSpace",
    "canonical_edges",
    "canonical_text",
    "draw_indices",
    "estimate_norms",
    "grid_of",
    "is_connected",
    "load_table",
    "read_mobilenet_pool",
    "read_shufflenet_pool",
    "sample_distinct",
    "within_bounds",
]

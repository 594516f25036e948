"""Labelled DAGs: batches, the graph encoder and the graph decoder."""

from common.graphs.batch import DagBatch
from common.graphs.decoder import GraphDecoder
from common.graphs.encoder import GraphEncoder
from common.graphs.state import END, START, GraphSizes
from common.graphs.validity import is_valid

__all__ = ["END", "START", "DagBatch", "GraphDecoder", "GraphEncoder", "GraphSizes", "is_valid"]

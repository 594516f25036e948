"""DNA: a supernet in six blocks, each distilled from a block of the teacher, rated alone and searched together.

Importing the package registers `dna_a`, `dna_b`, `dna_c` and `dna_d` with timm.

Source: Li et al., "Blockwisely Supervised Neural Architecture Search with Knowledge Distillation", CVPR 2020.
"""

from dna.archs import PUBLISHED, DnaArch, format_arch, parse_arch
from dna.models import build, dna_a, dna_b, dna_c, dna_d

__all__ = ["PUBLISHED", "DnaArch", "build", "dna_a", "dna_b", "dna_c", "dna_d", "format_arch", "parse_arch"]

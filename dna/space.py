"""The search space of a run: a skeleton, and for each stage the cells that are trained, rated and chosen from."""

import re
from dataclasses import dataclass, field

from dna.archs import LAYERS, NUM_STAGES, WIDTHS, Cell, Skeleton

_CELL = re.compile(r"(\d+)x(\d+)", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class BlockSpace:
    """Networks of six stages. The defaults are the published search: one cell a stage."""

    skeleton: Skeleton = field(default_factory=Skeleton)
    """Stem, strides and head."""
    cells: tuple[str, ...] = tuple(f"{layers}x{width}" for layers, width in zip(LAYERS, WIDTHS, strict=True))
    """For each stage LAYERSxWIDTH, such as 4x96; several are joined by +, such as 4x96+5x96."""

    def __post_init__(self) -> None:
        """Check the cells."""
        if len(self.cells) != NUM_STAGES:
            raise ValueError(f"cells are {self.cells}: give them for {NUM_STAGES} stages")
        for stage, of_stage in enumerate(self.stages()):
            if len(set(of_stage)) != len(of_stage):
                raise ValueError(f"stage {stage} has cell {self.cells[stage]}: give each cell once")

    def stages(self) -> tuple[tuple[Cell, ...], ...]:
        """The cells of each stage, in order."""
        return tuple(tuple(map(_cell_of, text.split("+"))) for text in self.cells)

    def check_resolution(self, resolution: int) -> None:
        """Raise ValueError unless the strides divide images of this side."""
        total = self.skeleton.total_stride
        if resolution < total or resolution % total:
            below = resolution // total * total
            near = [side for side in (below, below + total) if side]
            raise ValueError(
                f"resolution {resolution} is no multiple of {total}, the product of the strides "
                f"{self.skeleton.stem_stride} (stem) and {', '.join(map(str, self.skeleton.strides))}: "
                f"take {' or '.join(map(str, near))}"
            )

    @property
    def name(self) -> str:
        """Text that stands for the space in files."""
        return f"dna-{self.skeleton.format()}-{'|'.join(self.cells)}"


def _cell_of(text: str) -> Cell:
    match = _CELL.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no cell: write layers and width, such as 4x96, several of them as 4x96+5x96")
    return Cell(int(match[1]), int(match[2]))

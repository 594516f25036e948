"""Step `import-official`: bring a released checkpoint into our format, once.

Source: released code of Li et al., CVPR 2020 (formats only); see `dna.official_files`.
"""

from dataclasses import dataclass
from pathlib import Path

from common.experiment.config import StepConfig
from dna.archs import PUBLISHED, DnaArch, format_arch
from dna.official_files import check_model, read_checkpoint, save_checkpoint

IMPORTED = Path("exp/dna/import-official")
"""Where imported networks lie, unless --out says otherwise."""


@dataclass(frozen=True, kw_only=True)
class ImportConfig(StepConfig):
    """Turn a checkpoint of the released retraining into a safetensors file."""

    source: Path
    """The released file."""
    model: str | None = None
    """What it must be: DNA_a to DNA_d, or widths and ops; None takes whatever it is."""
    ema: bool = False
    """Take the moving average of the weights instead of the weights themselves."""


def import_official(cfg: ImportConfig) -> None:
    """Import; every name and shape has to match.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it is damaged, or holds what could run code.
        ValueError: it is no network of DNA, another one than asked for, or has no moving average.
    """
    found = read_checkpoint(cfg.source, ema=cfg.ema)
    if cfg.model is not None:
        check_model(found, cfg.model, cfg.source)
    target = (cfg.out or IMPORTED) / f"{name_of(found.arch) or cfg.source.name.split('.')[0]}.safetensors"
    save_checkpoint(target, found)
    print(f"{cfg.source}: {name_of(found.arch) or 'network'} {format_arch(found.arch)}, {found.num_classes} classes")
    for name, value in found.notes.items():
        print(f"  {name}: {value}")
    print(f"weights: {target}\nnext: python -m dna validate IMAGES --checkpoint {target}")


def name_of(arch: DnaArch) -> str | None:
    """Published name of an architecture, if it has one."""
    return next((name for name, known in PUBLISHED.items() if known == arch), None)

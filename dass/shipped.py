"""Where the artifacts lie that come with the repository."""

from pathlib import Path

_FOLDER = Path(__file__).resolve().parents[1] / "checkpoints" / "dass"
SHIPPED_DATABASE = _FOLDER / "database"
SHIPPED_PREDICTOR = _FOLDER / "predictor.safetensors"

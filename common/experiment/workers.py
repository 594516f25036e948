"""Who does independent jobs, as a section of a config."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Who does independent trainings."""

    backend: Literal["local", "spawn", "ray"] = "local"
    """local: this process, one after the other; spawn: `num` processes; ray: `num` tasks of a Ray cluster."""
    num: int = 1
    """Processes at a time."""
    threads: int | None = None
    """CPU threads of each; workers x threads should not exceed the cores. None leaves --threads."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.num < 1 or (self.threads is not None and self.threads < 1):
            raise ValueError(f"workers {self.num} with {self.threads} threads: at least 1 of each")
        if self.backend == "local" and self.num > 1:
            raise ValueError(f"{self.num} workers need --workers.backend spawn or ray")

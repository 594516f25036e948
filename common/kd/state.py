"""The checkpoint file of a training run."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from common.data.tasks import Task
from common.experiment.files import load_state, save_state
from common.kd.guide import weights_digest
from common.kd.learner import Learner
from common.kd.recipe import Recipe

_LEAST_INTERVALS = 50  # a save may take one part in 50 of the time, however large the state is
_SHOWN_NAMES = 5


def identity(
    networks: Sequence[nn.Module], task: Task, recipe: Recipe, seed: int, teacher: nn.Module | None
) -> dict[str, Any]:
    """What a run is, as plain values: a checkpoint continues only a run with the same."""
    return {
        **{f"recipe.{name}": value for name, value in dataclasses.asdict(recipe).items()},
        "task": task.id,
        "training images": len(task.train),
        "resolution": task.resolution,
        "classes": task.num_classes,
        "seed": seed,
        "teacher": None if teacher is None or recipe.loss == "ce" else weights_digest(teacher),
        "architectures": [[[name, *tensor.shape] for name, tensor in each.state_dict().items()] for each in networks],
    }


class Checkpoint:
    """Saves and restores the state of all networks of a run.

    Args:
        path: the file; None keeps nothing.
        run: see `identity`.
        every_seconds: least time between two saves, longer where saving itself takes long; 0 saves after every step. It
            changes no result.
    """

    def __init__(self, path: Path | None, run: dict[str, Any], every_seconds: float) -> None:
        self.path, self.run, self.every_seconds = path, run, every_seconds
        self.last_step: int | None = None
        self._saved_at = time.monotonic()
        self._cost = 0.0

    def due(self) -> bool:
        """Whether it is time to save."""
        interval = max(self.every_seconds, _LEAST_INTERVALS * self._cost) if self.every_seconds > 0 else 0.0
        return self.path is not None and time.monotonic() - self._saved_at >= interval

    def save(self, step: int, seconds: float, learners: Sequence[Learner]) -> None:
        """Write the state after `step` steps."""
        if self.path is None:
            return
        start = time.monotonic()
        states = [learner.state_dict() for learner in learners]
        save_state(self.path, {"run": self.run, "step": step, "seconds": seconds, "learners": states})
        self.last_step, self._saved_at = step, time.monotonic()
        self._cost = self._saved_at - start

    def restore(self, learners: Sequence[Learner]) -> tuple[int, float]:
        """Load the state if there is a file.

        Returns:
            (steps done, seconds spent), zeros where there is no file.

        Raises:
            RuntimeError: the file is damaged, or of another run; the message names what differs.
        """
        if self.path is None or not self.path.is_file():
            return 0, 0.0
        state = load_state(self.path)
        theirs = state.get("run", {})
        names = [name for name in {**theirs, **self.run} if theirs.get(name) != self.run.get(name)]
        if names:
            more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
            raise RuntimeError(
                f"checkpoint {self.path} is of another run ({', '.join(names[:_SHOWN_NAMES])}{more} differ): "
                "delete it or choose another folder"
            )
        for learner, saved in zip(learners, state["learners"], strict=True):
            learner.load_state_dict(saved)
        self.last_step = state["step"]
        return state["step"], state["seconds"]

    def describe(self) -> str:
        """Where to go on from after a failure."""
        if self.last_step is None:
            return "no checkpoint was kept"
        return f"the last good checkpoint is {self.path} (step {self.last_step})"

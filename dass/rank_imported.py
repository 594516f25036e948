"""Step `rank-imported`: the released search over the released candidates, after `import-official`.

No image and no network is needed: maps, codes and the teacher's accuracy come from files.

Source: Lee et al., ICLR 2023, rapid search on unseen datasets.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common.experiment.config import StepConfig, UsageError
from common.experiment.files import write_json
from common.experiment.names import slug
from dass.candidates import Candidates, load_candidates
from dass.database import TaskTable, load_table
from dass.prediction import adapt_and_predict
from dass.predictor import PredictorArtifact, load_predictor, scale_maps


@dataclass(frozen=True, kw_only=True)
class RankConfig(StepConfig):
    """Rank candidates whose maps lie in a file, as import-official writes them."""

    predictor: Path
    """Predictor of the same origin."""
    candidates: Path
    """Candidates file."""
    table: Path
    """Database file of the same task: it holds the teacher's map, code and accuracy."""
    top_k: int = 1
    """How many of the best are printed."""
    step_size_reset: float | None = None
    """Adapt with this one step size instead of the stored ones."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; it must be 1 or more")


def rank_imported(cfg: RankConfig) -> None:
    """Run the step."""
    artifact, candidates, table = load_predictor(cfg.predictor), load_candidates(cfg.candidates), load_table(cfg.table)
    _check_origin(cfg, artifact, candidates, table)
    steps = artifact.step_sizes
    if cfg.step_size_reset is not None:
        steps = {name: torch.full_like(value, cfg.step_size_reset) for name, value in steps.items()}
    scale = artifact.predictor.config.map_scale
    students, teacher_map = scale_maps(candidates.actmap, table.teacher_actmap, scale)
    found = adapt_and_predict(
        artifact.predictor,
        steps if artifact.adapt else None,
        teacher_map,
        table.teacher_enc,
        table.teacher_best_accuracy,
        maps=students,
        codes=candidates.arch_enc,
        num_steps=artifact.num_inner_updates,
    )
    order = torch.argsort(found.scores, descending=True, stable=True)[: cfg.top_k].tolist()
    chosen = [
        {"index": index, "arch": candidates.architectures[index], "score": float(found.scores[index])}
        for index in order
    ]
    result: dict[str, Any] = {
        "task": candidates.task,
        "chosen": chosen,
        "scores": found.scores.tolist(),
        "teacher_error_before": found.error_before,
        "teacher_error_after": found.error_after,
    }
    folder = cfg.out or Path("exp/dass/rank-imported") / slug(candidates.task)
    write_json(folder / "result.json", result)
    for place, student in enumerate(chosen, start=1):
        print(f"  {place}. index {student['index']}  {student['arch']}  score {student['score']:.4f}")
    print(f"{candidates.task}: {len(found.scores)} candidates ranked\nresult: {folder / 'result.json'}")


def _check_origin(cfg: RankConfig, artifact: PredictorArtifact, candidates: Candidates, table: TaskTable) -> None:
    """Codes and maps mean the same only where they come from the same place."""
    origins = {
        str(cfg.predictor): (artifact.origin, artifact.resolution),
        str(cfg.candidates): (candidates.origin, candidates.resolution),
        str(cfg.table): (table.identity["origin"], table.resolution),
    }
    if len(set(origins.values())) > 1:
        listed = ", ".join(f"{file} is {origin} at {side} px" for file, (origin, side) in origins.items())
        raise UsageError(f"these files do not go together: {listed}")
    if candidates.task != table.task:
        raise UsageError(f"{cfg.candidates} is of {candidates.task}, {cfg.table} of {table.task}")

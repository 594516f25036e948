"""Released candidates are ranked by the predictor that was imported with them, and by no other."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from common.experiment.config import UsageError
from dass.candidates import Candidates, save_candidates
from dass.database import TaskTable, save_table
from dass.prediction import adapt_and_predict
from dass.predictor import PredictorArtifact, PredictorConfig, new_predictor, new_step_sizes, save_predictor
from dass.rank_imported import RankConfig, rank_imported

MakeTable = Callable[..., TaskTable]


@pytest.fixture
def files(tmp_path: Path, small: PredictorConfig, make_table: MakeTable) -> RankConfig:
    table = make_table("cub", meta={"unit": "fraction", "pr_type": "copy_paste_first", "origin": "official"})
    predictor = new_predictor(small, 0)
    artifact = PredictorArtifact(
        predictor=predictor,
        step_sizes=new_step_sizes(predictor, 0.005),
        space_name="toy",
        resolution=16,
        pr_type="copy_paste_first",
        probe=None,
        origin="official",
    )
    candidates = Candidates(
        task="cub",
        space_name="toy",
        resolution=16,
        actmap=table.actmap,
        arch_enc=table.arch_enc,
        architectures=table.architectures,
        origin="official",
    )
    save_predictor(tmp_path / "p.safetensors", artifact)
    save_candidates(tmp_path / "c.safetensors", candidates)
    save_table(tmp_path / "t.safetensors", table, half=False)
    paths = {"predictor": "p", "candidates": "c", "table": "t"}
    return RankConfig(
        **{name: tmp_path / f"{stem}.safetensors" for name, stem in paths.items()}, out=tmp_path / "out", top_k=3
    )


def test_the_best_scores_come_first_and_are_those_of_one_adaptation(
    files: RankConfig, small: PredictorConfig, make_table: MakeTable
) -> None:
    rank_imported(files)
    result = json.loads((files.out / "result.json").read_text())  # type: ignore[operator]
    table, predictor = make_table("cub"), new_predictor(small, 0)
    expected = adapt_and_predict(
        predictor,
        new_step_sizes(predictor, 0.005),
        table.teacher_actmap,
        table.teacher_enc,
        table.teacher_best_accuracy,
        maps=table.actmap,
        codes=table.arch_enc,
    ).scores
    torch.testing.assert_close(torch.tensor(result["scores"]), expected, atol=1e-6, rtol=0)
    assert [student["index"] for student in result["chosen"]] == expected.argsort(descending=True)[:3].tolist()


def test_files_of_two_origins_are_refused(files: RankConfig, make_table: MakeTable) -> None:
    save_table(files.table, make_table("cub", meta={"unit": "fraction", "pr_type": "copy_paste_first"}))
    with pytest.raises(UsageError, match="do not go together"):
        rank_imported(files)


def test_a_table_of_another_task_is_refused(files: RankConfig, make_table: MakeTable) -> None:
    meta = {"unit": "fraction", "pr_type": "copy_paste_first", "origin": "official"}
    save_table(files.table, make_table("dtd", meta=meta))
    with pytest.raises(UsageError, match="is of cub"):
        rank_imported(files)

"""The step that meta-trains the predictor on a database.

Source: Lee et al., ICLR 2023, released code; ours starts from its own weights and keeps the learned step sizes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from common.experiment.config import StepConfig
from common.experiment.device import resolve_device
from common.experiment.files import write_text
from common.experiment.run import Run, open_run
from common.report.facts import commands_of, read_curves, settings_of
from dass.database import TaskTable, load_database, split_by_role
from dass.episodes import to_tensors
from dass.meta_training import MetaLearner, MetaLearning, meta_train, validate
from dass.predictor import PredictorArtifact, PredictorConfig, PredictorSizes, new_predictor, save_predictor
from dass.report import meta_train_page
from dass.report_inputs import MetaTrainFacts, TaskFacts
from dass.shipped import SHIPPED_DATABASE

FILE_NAME = "predictor.safetensors"


@dataclass(frozen=True, kw_only=True)
class MetaTrainConfig(StepConfig, MetaLearning):
    """Meta-train the predictor on a database of tasks."""

    database: Path = SHIPPED_DATABASE
    """Folder with one file a task, as `collect` and `import-official` write them."""
    meta_train_tasks: tuple[str, ...] = ()
    """Tasks to learn from; none given means all that are in no other role."""
    meta_valid_tasks: tuple[str, ...] = ("tiny_imagenet/8", "tiny_imagenet/9")
    """Tasks whose mean Spearman correlation selects the checkpoint."""
    meta_test_tasks: tuple[str, ...] = ()
    """Tasks that are reported at the end and never enter learning or selection."""
    predictor: PredictorSizes = field(default_factory=PredictorSizes)
    """Sizes and inputs of the predictor."""
    seed: int = 2
    """Seed of the first weights and of the draws; the published run has 2."""


def run_meta_train(cfg: MetaTrainConfig) -> None:
    """Meta-train, and write `predictor.safetensors` with weights and step sizes of the best validation.

    Raises:
        FileNotFoundError: there is no database.
        ValueError: a task is not in it, or its files do not fit together.
        RuntimeError: the loss is not finite any more.
    """
    folder = cfg.out or Path("exp/dass/meta-train") / f"{cfg.predictor.input_type.lower()}-seed{cfg.seed}"
    print(f"meta-train: {cfg.num_episodes} episodes on {cfg.database} -> {folder}")
    tables = load_database(cfg.database)
    with open_run(folder, program="dass", step="meta-train", config=cfg, products=[FILE_NAME]) as run:
        if run.result is None:
            _train(cfg, tables, run)
        else:
            print(f"{folder} is finished; --restart begins anew")
        assert run.result is not None
        print(_summary(run.result))
    print(f"report: {folder / 'report.html'}\nnext: python -m dass search --predictor {folder / FILE_NAME} --data NAME")


def _train(cfg: MetaTrainConfig, tables: Mapping[str, TaskTable], run: Run) -> None:
    """Do what is left of the run, and finish it."""
    test = _test_tables(cfg, tables)
    others = {task: table for task, table in tables.items() if table not in test}
    train, valid = split_by_role(others, cfg.meta_train_tasks, cfg.meta_valid_tasks)
    device = resolve_device(cfg.gpu)
    any_table = train[0]
    config = PredictorConfig(
        **asdict(cfg.predictor), map_channels=any_table.actmap.shape[1], arch_dim=any_table.arch_enc.shape[1]
    )
    learner = MetaLearner(new_predictor(config, cfg.seed), cfg).to(device)
    prepared = {
        table.task: to_tensors(table, cfg.label, device, cfg.predictor.map_scale) for table in (*train, *valid, *test)
    }
    best = meta_train(
        learner,
        [prepared[table.task] for table in train],
        [prepared[table.task] for table in valid],
        cfg,
        seed=cfg.seed,
        run=run,
    )
    result: dict[str, Any] = {
        "valid": best.as_dict(),
        "meta_train_tasks": [table.task for table in train],
        "meta_valid_tasks": [table.task for table in valid],
        "predictor": FILE_NAME,
    }
    if test:
        result["test"] = validate(learner, [prepared[table.task] for table in test], cfg).as_dict()
    save_predictor(run.folder / FILE_NAME, _artifact(cfg, learner.cpu(), any_table, result))
    run.flush()
    write_text(run.folder / "report.html", meta_train_page(_facts(cfg, run, train, valid, test)))
    run.finish(result)


def _facts(
    cfg: MetaTrainConfig,
    run: Run,
    train: Sequence[TaskTable],
    valid: Sequence[TaskTable],
    test: Sequence[TaskTable],
) -> MetaTrainFacts:
    curves = read_curves(run.folder)
    means = curves["valid", "spearman"]
    kept = max(range(len(means.values)), key=lambda i: means.values[i])
    roles = (("meta-train", train), ("meta-valid", valid), ("meta-test", test))
    return MetaTrainFacts(
        losses=curves["train", "loss"],
        validation={table.task: curves["valid", f"spearman/{table.task}"] for table in valid},
        kept=(int(means.steps[kept]), means.values[kept]),
        database=[
            TaskFacts(
                name=table.description,
                role=role,
                teacher_accuracy=table.teacher_best_accuracy,
                accuracies=table.best_accuracy,
            )
            for role, tables in roles
            for table in tables
        ],
        settings=settings_of({**asdict(cfg.predictor), **{f.name: getattr(cfg, f.name) for f in fields(MetaLearning)}}),
        num_undefined=int(sum(curves["valid", "undefined"].values)),
        commands=commands_of(
            "dass", "meta-train", run.folder, f"python -m dass search --data NAME --predictor {run.folder / FILE_NAME}"
        ),
    )


def _test_tables(cfg: MetaTrainConfig, tables: Mapping[str, TaskTable]) -> list[TaskTable]:
    for task in cfg.meta_test_tasks:
        if task not in tables:
            raise ValueError(f"no task {task} in the database; it has {', '.join(tables)}")
        if task in (*cfg.meta_train_tasks, *cfg.meta_valid_tasks):
            raise ValueError(f"{task}: a task that is learned from or selects cannot be a meta-test task")
    return [tables[task] for task in cfg.meta_test_tasks]


def _artifact(
    cfg: MetaTrainConfig, learner: MetaLearner, table: TaskTable, result: Mapping[str, Any]
) -> PredictorArtifact:
    identity = table.identity
    return PredictorArtifact(
        predictor=learner.predictor,
        step_sizes={name: size.detach() for name, size in learner.step_sizes.items()},
        space_name=table.space_name,
        resolution=table.resolution,
        pr_type=identity["pr_type"],
        probe=table.probe,
        adapt=cfg.adapt,
        num_inner_updates=cfg.num_inner_updates,
        score=result["valid"]["score"],
        origin=identity["origin"],
        notes={
            "seed": cfg.seed,
            "label": cfg.label,
            "num_episodes": cfg.num_episodes,
            "first_order": cfg.first_order,
            **result,
        },
    )


def _summary(result: Mapping[str, Any]) -> str:
    """One line for each task that was not learned from, and the mean that selected."""
    lines = []
    for role in ("valid", "test"):
        for task, rho in result.get(role, {}).get("spearman", {}).items():
            found = result[role]
            undefined = ", constant predictions" if task in found["undefined"] else ""
            lines.append(
                f"  {role} {task}: rho {rho:.3f}, r {found['pearson'][task]:.3f}, squared error on the teacher "
                f"{found['error_before'][task]:.4f} -> {found['error_after'][task]:.4f}{undefined}"
            )
    return "\n".join([*lines, f"result: mean Spearman correlation {result['valid']['score']:.3f} on meta-validation"])

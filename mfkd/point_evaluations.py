"""Points of a space trained for a search, or found in the record store."""

from collections.abc import Mapping, Sequence

from common.data.tasks import Task
from common.experiment.parallel import Job, map_resumable
from common.store.records import Record
from mfkd.evaluations import Fidelity
from mfkd.images import Images
from mfkd.models import Model, Space, model_at
from mfkd.recipes import Training
from mfkd.training import Context, PointJob, Setting, task_of, teacher_digest, train_point


def setting_of(space: Space, images: Images, training: Training, fidelity: Fidelity, context: Context) -> Setting:
    """What the evaluations at one fidelity share; opens the images and the teacher.

    Raises:
        FileNotFoundError, ValueError, RuntimeError: see `task_of` and `teacher_digest`.
    """
    return Setting(
        place=context.place,
        images=images,
        space=space,
        training=training,
        fidelity=fidelity,
        teacher=teacher_digest(space, training, task_of(images, context.place)),
    )


class PointEvaluations:
    """Trains points, or finds them in the store; what searches call as `evaluate`.

    Args:
        name: of the step, for messages.
        settings: one a fidelity that is asked for, of one space.
        context: of the run.
        num_planned: evaluations that a search will ask for in all, for messages; None where that is open.
    """

    def __init__(
        self, name: str, settings: Mapping[Fidelity, Setting], context: Context, num_planned: int | None = None
    ) -> None:
        self.name, self.settings, self.context, self.num_planned = name, settings, context, num_planned
        self.tasks: dict[Fidelity, Task] = {
            fidelity: task_of(setting.images, context.place) for fidelity, setting in settings.items()
        }
        self._num_asked = 0

    @property
    def space(self) -> Space:
        """The space of the points."""
        return next(iter(self.settings.values())).space

    @property
    def task(self) -> Task:
        """Images and classes; training images differ between fidelities."""
        return next(iter(self.tasks.values()))

    def __call__(self, points: Sequence[int], fidelity: Fidelity) -> list[float]:
        """Accuracies of points, in their order; results are kept by key, so workers may end in any order."""
        jobs = {job.key: job for job in (PointJob(setting=self.settings[fidelity], point=point) for point in points)}

        def keep(key: str, record: Record) -> None:
            self.context.store.add(record)
            jobs[key].checkpoint.unlink(missing_ok=True)

        self._num_asked += len(points)
        of_all = "" if self.num_planned is None else f" of {self.num_planned}"
        map_resumable(
            train_point,
            [Job(key=key, args=(job,)) for key, job in jobs.items()],
            done=lambda key: self._find(jobs[key].point, fidelity) is not None,
            store=keep,
            backend=self.context.workers.backend,
            workers=self.context.workers.num,
            threads=self.context.workers.threads,
            description=f"{self.name}, {fidelity} fidelity, {self._num_asked}{of_all}",
        )
        return [self.record(point, fidelity).final_accuracy for point in points]

    def record(self, point: int, fidelity: Fidelity) -> Record:
        """The record of a point that was evaluated."""
        found = self._find(point, fidelity)
        assert found is not None
        return found

    def model(self, point: int) -> Model:
        """The network of a point."""
        return model_at(self.space, point, self.task.num_classes)

    def training_macs(self, point: int, fidelity: Fidelity) -> int:
        """Multiply-accumulates that the training of a point takes; see `Setting.training_macs`."""
        return self.settings[fidelity].training_macs(self.model(point), self.tasks[fidelity])

    def _find(self, point: int, fidelity: Fidelity) -> Record | None:
        setting = self.settings[fidelity]
        return self.context.store.get(
            task=self.tasks[fidelity].id,
            space=self.space.name,
            architecture=self.model(point).text,
            recipe=setting.recipe,
            seed=setting.training.seed,
        )

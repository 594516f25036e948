"""From what the steps know to what their pages show."""

from common.data.tasks import Task
from common.spaces.resnet import ResNetArch, ResNetSpace
from dass.report_inputs import NetworkFacts


def network_facts(
    name: str,
    space: ResNetSpace,
    arch: ResNetArch,
    task: Task,
    *,
    accuracy: float | None = None,
    score: float | None = None,
) -> NetworkFacts:
    """A network with its cost."""
    cost = space.cost(arch, task.num_classes, task.resolution)
    return NetworkFacts(
        name=name,
        architecture=space.format(arch),
        num_params=cost.num_params,
        macs=cost.macs,
        widths=arch.widths,
        accuracy=accuracy,
        score=score,
    )

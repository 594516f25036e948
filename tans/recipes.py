"""How supernets and retrieved networks are trained."""

from common.kd.recipe import Recipe
from common.supernet import Shrinking
from tans.zoo_jobs import SupernetTraining

_OPENING = (0.3, 0.3)

BASE = SupernetTraining(
    recipe=Recipe(loss="ce", epochs=180, learning_rate=0.05, channels_last=True, clip_norm=5.0),
    shrinking=Shrinking(kernels=_OPENING, depths=_OPENING, expansions=_OPENING, num_random=1),
)
"""Of the base supernet: the largest network alone first, then smaller ones beside it. Ours; nothing is published."""
OWN = SupernetTraining(
    recipe=Recipe(loss="ce", epochs=50, batch_size=32, learning_rate=0.01, channels_last=True, clip_norm=5.0),
    shrinking=Shrinking(num_random=1),
)
"""Of a source's supernet, from the base. Ours; nothing is published."""
FINETUNING = Recipe(
    loss="ce",
    epochs=50,
    batch_size=32,
    learning_rate=0.01,
    nesterov=False,
    weight_decay=4e-5,
    padding=0,
    flip="no",
    validate_every=1,
)
"""Of a retrieved network. Source: Jeong et al., NeurIPS 2021, released code: SGD with momentum, images as they are."""

"""Learning rates as functions of the step, so that a resumed run needs no schedule state."""

import math

from common.kd.recipe import Recipe

WARMUP_START = 1e-4
"""Learning rate of the first epoch of a warm-up."""


def learning_rate(recipe: Recipe, step: int, num_steps: int) -> float:
    """Learning rate of one step.

    Args:
        recipe: schedule, first learning rate, milestones and gamma.
        step: 0 .. num_steps - 1.
        num_steps: steps of the whole run.

    Returns:
        cosine: lr * (1 + cos(pi * step / num_steps)) / 2, which would reach 0 at step num_steps.
        swing: lr * (1 + cos(pi * step / epochs)) / 2: a schedule of so many epochs that is advanced with every step.
        step: lr * gamma ** (milestones passed), a milestone m being passed from step m * num_steps on.
        exponential: lr * gamma ** floor(epoch / decay_epochs), epochs counted from 0.
        In the first warmup_epochs: WARMUP_START + epoch * (lr - WARMUP_START) / warmup_epochs instead.
    """
    epoch = step * recipe.epochs // num_steps
    if epoch < recipe.warmup_epochs:
        return WARMUP_START + epoch * (recipe.learning_rate - WARMUP_START) / recipe.warmup_epochs
    if recipe.schedule == "exponential":
        return recipe.learning_rate * recipe.gamma ** math.floor(epoch / recipe.decay_epochs)
    if recipe.schedule == "cosine":
        return recipe.learning_rate * (1 + math.cos(math.pi * step / num_steps)) / 2
    if recipe.schedule == "swing":
        return recipe.learning_rate * (1 + math.cos(math.pi * step / recipe.epochs)) / 2
    passed = sum(step >= milestone * num_steps for milestone in recipe.milestones)
    return recipe.learning_rate * recipe.gamma**passed

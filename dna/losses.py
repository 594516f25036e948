"""How far a block's output is from the teacher's feature: what trains it, and what rates its paths.

Statistics are taken over all elements of a batch at once, the batch axis included, and are unbiased.

Source: Li et al., CVPR 2020; released code, distill_train.py.
"""

import torch
from torch import Tensor

_EPSILON = 1e-9
MEASURES = ("cl_loss", "gr_loss", "loss", "rela_loss", "sq_loss")
"""Names in files of what `measures` returns, in its order."""


def guide_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error in float32, a scalar: the training loss.

    Args:
        student: (B, C, H, W).
        teacher: the same shape, a constant.
    """
    return (student.float() - teacher.float()).square().mean()


def measures(student: Tensor, teacher: Tensor) -> Tensor:
    """All that files of ratings hold of a batch, (5,) float32.

    - cl_loss: relative L1, mean |X - Y| / std(Y): the rating;
    - gr_loss: mean |X - Y| / mean |Y|;
    - loss: mean squared error;
    - rela_loss: mean squared error / var(Y);
    - sq_loss: root of the mean squared error / var(Y). The released code means the standard deviation, and divides by
      the variance; the name stands for what it writes.

    Args:
        student: X, (B, C, H, W).
        teacher: Y, the same shape.
    """
    student, teacher = student.float(), teacher.float()
    absolute, squared = (student - teacher).abs().mean(), (student - teacher).square().mean()
    variance = teacher.var()
    return torch.stack(
        [
            absolute / (variance.sqrt() + _EPSILON),
            absolute / (teacher.abs().mean() + _EPSILON),
            squared,
            squared / (variance + _EPSILON),
            squared.sqrt() / variance,
        ]
    )

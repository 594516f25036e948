"""Distillation losses: functions of tensors, means over the batch, constant in the teacher."""

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_target_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of the student under the teacher's softened probabilities, times temperature**2.

    It differs from the Kullback-Leibler form by the teacher's entropy, a constant for the student.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K), taken as constants.
        temperature: > 0; the factor temperature**2 keeps the scale of the gradients.

    Returns:
        Scalar, mean over B, in nats.

    Raises:
        ValueError: the shapes differ or the temperature is not positive.

    Source: Hinton et al. 2015, section 2.
    """
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student logits {tuple(student_logits.shape)} and teacher logits {tuple(teacher_logits.shape)} differ: "
            "both need (batch, classes) of the same classes"
        )
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}, it must be positive")
    targets = (teacher_logits.detach() / temperature).softmax(dim=1)
    return F.cross_entropy(student_logits / temperature, targets) * temperature**2


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    alpha: float,
    label_smoothing: float = 0.0,
) -> Tensor:
    """(1 - alpha) * soft_target_loss + alpha * cross-entropy with the labels: alpha weights the hard term.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K), taken as constants.
        labels: (B,) int64.
        temperature: softmax temperature of the soft term.
        alpha: weight of the hard term, in [0, 1].
        label_smoothing: of the hard term.

    Returns:
        Scalar, mean over B, in nats.

    Raises:
        ValueError: see `soft_target_loss`; or alpha is outside [0, 1].

    Source: Hinton et al. 2015; the weights as in DaSS (temperature 6, alpha 0.5).
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}, the weight of the label term must be in [0, 1]")
    soft = soft_target_loss(student_logits, teacher_logits, temperature)
    hard = F.cross_entropy(student_logits, labels, label_smoothing=label_smoothing)
    return (1 - alpha) * soft + alpha * hard


def nst_loss(student_map: Tensor, teacher_map: Tensor, full: bool = False) -> Tensor:
    """Maximum mean discrepancy of channel maps under the squared inner product (neuron selectivity transfer).

    Where a map has fewer positions than channels the same numbers come from P x P Gram matrices, which are smaller.

    Args:
        student_map: (B, C, H, W).
        teacher_map: (B, C', H', W'), taken as constant; of two sizes the larger map is average-pooled.
        full: add the teacher-teacher term. It is constant for the student; without it the value can be negative.

    Returns:
        Scalar, mean over B.

    Raises:
        ValueError: the maps are not 4-dimensional or their batches differ.

    Source: Huang and Wang 2017, equation 9; the reduced form as in the published MFKD runs.
    """
    student, teacher = _match_size(student_map, teacher_map)
    student, teacher = F.normalize(student.flatten(2), dim=2), F.normalize(teacher.flatten(2), dim=2)  # (B, C, P)
    kernel = _mean_kernel_by_positions if student.shape[2] < student.shape[1] else _mean_kernel_by_channels
    loss = kernel(student, student) - 2 * kernel(student, teacher)
    return loss + kernel(teacher, teacher) if full else loss


def attention_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Mean squared difference of the normalised attention maps, the channel means of the squared activations.

    Args:
        student_map: (B, C, H, W).
        teacher_map: (B, C', H', W'), taken as constant; of two sizes the larger map is average-pooled.

    Returns:
        Scalar, mean over B and positions.

    Raises:
        ValueError: the maps are not 4-dimensional or their batches differ.

    Source: Zagoruyko and Komodakis 2017, section 3.1, with the mean over positions instead of the norm.
    """
    student, teacher = _match_size(student_map, teacher_map)
    return F.mse_loss(_attention(student), _attention(teacher))


def similarity_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared difference of the row-normalised B x B matrices of inner products within the batch, over B**2.

    Args:
        student_map: (B, ...).
        teacher_map: (B, ...), taken as constant; its other axes may differ from the student's.

    Returns:
        Scalar.

    Raises:
        ValueError: the batches differ.

    Source: Tung and Mori 2019, equations 3 and 4.
    """
    _check_batches(student_map, teacher_map)
    student, teacher = _similarities(student_map), _similarities(teacher_map.detach())
    return (student - teacher).square().mean()


def pkt_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Divergence of the student's distribution over the other images of the batch from the teacher's.

    Args:
        student_features: (B, D), or maps (B, C, H, W) that are averaged over their positions.
        teacher_features: the same for the teacher, taken as constant; D may differ.

    Returns:
        Scalar, mean over the B * B entries.

    Raises:
        ValueError: the batches differ.

    Source: Passalis and Tefas 2018, equations 4 and 6 (cosine kernel).
    """
    _check_batches(student_features, teacher_features)
    student, teacher = _affinities(student_features), _affinities(teacher_features.detach())
    return (teacher * ((teacher + _PKT_EPSILON) / (student + _PKT_EPSILON)).log()).mean()


def hint_loss(regressed_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Mean squared error between the teacher's map and the student's after its regressor.

    Args:
        regressed_map: (B, C, H, W), the student's map brought to the teacher's channels.
        teacher_map: (B, C, H', W'), taken as constant; of two sizes the larger map is average-pooled.

    Returns:
        Scalar, mean over all entries.

    Raises:
        ValueError: the maps are not 4-dimensional, or their batches or channels differ.

    Source: Romero et al. 2015, equation 3, as a mean instead of a sum.
    """
    student, teacher = _match_size(regressed_map, teacher_map)
    if student.shape != teacher.shape:
        raise ValueError(
            f"hint maps have {student.shape[1]} and {teacher.shape[1]} channels: regress the student's first"
        )
    return F.mse_loss(student, teacher)


_PKT_EPSILON = 1e-7


def _check_batches(student: Tensor, teacher: Tensor) -> None:
    if student.shape[0] != teacher.shape[0]:
        raise ValueError(f"student and teacher features come from {student.shape[0]} and {teacher.shape[0]} images")


def _match_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pool the larger map to the smaller one's height and width; cut the teacher's gradient."""
    if student.dim() != 4 or teacher.dim() != 4:
        raise ValueError(
            f"feature maps need 4 axes (batch, channels, height, width), got {student.dim()} and {teacher.dim()}"
        )
    _check_batches(student, teacher)
    teacher = teacher.detach()
    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    return F.adaptive_avg_pool2d(student, size), F.adaptive_avg_pool2d(teacher, size)


def _mean_kernel_by_channels(first: Tensor, second: Tensor) -> Tensor:
    """Mean of (a_i . b_j)**2 over batch and channels of (B, C, P) and (B, C', P): one product B x C x C'."""
    return torch.bmm(first, second.mT).square().mean()


def _mean_kernel_by_positions(first: Tensor, second: Tensor) -> Tensor:
    """The same number as the inner product of the P x P Gram matrices."""
    inner = torch.bmm(first.mT, first) * torch.bmm(second.mT, second)
    return inner.sum() / (first.shape[0] * first.shape[1] * second.shape[1])


def _attention(features: Tensor) -> Tensor:
    return F.normalize(features.square().mean(dim=1).flatten(1), dim=1)  # (B, C, H, W) -> (B, H*W)


def _similarities(features: Tensor) -> Tensor:
    flat = features.flatten(1)
    return F.normalize(flat @ flat.mT, dim=1)  # (B, B)


def _affinities(features: Tensor) -> Tensor:
    vectors = F.normalize(features.flatten(2).mean(dim=2) if features.dim() > 2 else features, dim=1)
    positive = (vectors @ vectors.mT + 1) / 2
    return positive / positive.sum(dim=1, keepdim=True)  # (B, B), rows sum to 1

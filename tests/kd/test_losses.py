"""Distillation losses against slow and obvious forms."""

import pytest
import torch
import torch.nn.functional as F

from common.kd.losses import (
    attention_loss,
    distillation_loss,
    hint_loss,
    nst_loss,
    pkt_loss,
    similarity_loss,
    soft_target_loss,
)


@pytest.fixture
def draws():
    return torch.Generator().manual_seed(11)


@pytest.fixture
def logits(draws):
    student, teacher = torch.randn(2, 6, 5, generator=draws, dtype=torch.float64) * 3
    return student, teacher, torch.tensor([0, 4, 1, 2, 3, 0])


def maps(draws, channels, size, batch=3):
    return torch.randn(batch, channels, size, size, generator=draws, dtype=torch.float64)


def test_alpha_one_is_cross_entropy_with_the_labels(logits):
    student, teacher, labels = logits
    loss = distillation_loss(student, teacher, labels, temperature=6, alpha=1)
    assert torch.equal(loss, F.cross_entropy(student, labels))


def test_temperature_one_and_alpha_zero_is_cross_entropy_with_the_teachers_probabilities(logits):
    student, teacher, labels = logits
    expected = -(teacher.softmax(1) * student.log_softmax(1)).sum(1).mean()
    loss = distillation_loss(student, teacher, labels, temperature=1, alpha=0)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(("temperature", "alpha"), [(6, 0.5), (2.5, 0.1)])
def test_distillation_is_divergence_plus_entropy_plus_labels(logits, temperature, alpha):
    student, teacher, labels = logits
    soft = (teacher / temperature).softmax(1)
    divergence = F.kl_div((student / temperature).log_softmax(1), soft, reduction="batchmean")
    entropy = -(soft * soft.log()).sum(1).mean()
    expected = (1 - alpha) * temperature**2 * (divergence + entropy) + alpha * F.cross_entropy(student, labels)
    loss = distillation_loss(student, teacher, labels, temperature=temperature, alpha=alpha)
    torch.testing.assert_close(loss, expected)


def test_the_gradient_of_distillation_follows_the_formula(logits):
    student, teacher, labels = logits
    student.requires_grad_()
    teacher = teacher.clone().requires_grad_()
    temperature, alpha = 6, 0.3
    distillation_loss(student, teacher, labels, temperature=temperature, alpha=alpha).backward()
    soft = temperature * ((student / temperature).softmax(1) - (teacher / temperature).softmax(1))
    hard = student.softmax(1) - F.one_hot(labels, 5)
    torch.testing.assert_close(student.grad, ((1 - alpha) * soft + alpha * hard).detach() / len(labels))
    assert teacher.grad is None


def test_label_smoothing_acts_on_the_label_term_as_in_torch(logits):
    student, teacher, labels = logits
    loss = distillation_loss(student, teacher, labels, temperature=6, alpha=1, label_smoothing=0.1)
    torch.testing.assert_close(loss, F.cross_entropy(student, labels, label_smoothing=0.1))


def test_a_constant_added_to_a_row_of_logits_changes_nothing(logits):
    student, teacher, _ = logits
    shift = torch.arange(6, dtype=torch.float64)[:, None]
    expected = soft_target_loss(student, teacher, 4)
    torch.testing.assert_close(soft_target_loss(student + shift, teacher - 2 * shift, 4), expected)


def test_wrong_shapes_and_weights_are_refused(logits):
    student, teacher, labels = logits
    with pytest.raises(ValueError, match=r"\(6, 5\) and teacher logits \(6, 4\) differ"):
        soft_target_loss(student, teacher[:, :4], 1)
    with pytest.raises(ValueError, match="temperature is 0"):
        soft_target_loss(student, teacher, 0)
    with pytest.raises(ValueError, match=r"alpha is 1.5"):
        distillation_loss(student, teacher, labels, temperature=1, alpha=1.5)


def naive_nst(student, teacher, full):
    """The broadcast form, B x C x C' x P."""
    student, teacher = F.normalize(student.flatten(2), dim=2), F.normalize(teacher.flatten(2), dim=2)

    def kernel(a, b):
        return (a[:, :, None] * b[:, None, :]).sum(3).square().mean()

    loss = kernel(student, student) - 2 * kernel(student, teacher)
    return loss + kernel(teacher, teacher) if full else loss


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("channels", "size"), [((4, 7), 4), ((12, 6), 3), ((6, 12), 2)])
def test_nst_equals_the_broadcast_form_for_few_and_for_many_positions(draws, channels, size, full):
    student, teacher = maps(draws, channels[0], size), maps(draws, channels[1], size)
    torch.testing.assert_close(nst_loss(student, teacher, full), naive_nst(student, teacher, full))


def test_nst_pools_the_larger_map_to_the_smaller(draws):
    small, large = maps(draws, 4, 4), maps(draws, 5, 8)
    pooled = large.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
    torch.testing.assert_close(nst_loss(small, large), naive_nst(small, pooled, False))
    torch.testing.assert_close(nst_loss(large, small), naive_nst(pooled, small, False))


@pytest.mark.parametrize("size", [2, 4])
def test_nst_ignores_the_order_and_scale_of_channels_and_the_order_of_the_batch(draws, size):
    student, teacher = maps(draws, 6, size), maps(draws, 7, size)
    scale = torch.tensor([2, -1, 0.5, -3, 1, 7], dtype=torch.float64)[:, None, None]
    changed = (student * scale)[:, [5, 2, 0, 1, 4, 3]]
    expected = nst_loss(student, teacher)
    torch.testing.assert_close(nst_loss(changed[[2, 0, 1]], teacher[[2, 0, 1]]), expected)


def test_full_nst_is_zero_for_equal_maps_and_never_negative(draws):
    student, teacher = maps(draws, 6, 3), maps(draws, 5, 3)
    torch.testing.assert_close(nst_loss(student, student, True), torch.zeros((), dtype=torch.float64))
    assert nst_loss(student, teacher, True) > 0
    assert nst_loss(student, student) < 0


def test_the_constant_term_of_nst_changes_no_gradient(draws):
    student, teacher = maps(draws, 6, 3).requires_grad_(), maps(draws, 5, 3)
    (reduced,) = torch.autograd.grad(nst_loss(student, teacher), student)
    (whole,) = torch.autograd.grad(nst_loss(student, teacher, True), student)
    torch.testing.assert_close(reduced, whole)
    assert reduced.abs().max() > 0


def test_attention_equals_a_loop_over_images(draws):
    student, teacher = maps(draws, 4, 3), maps(draws, 6, 6)
    teacher_small = teacher.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
    total = 0.0
    for mine, its in zip(student, teacher_small, strict=True):
        first, second = (each.square().mean(0).flatten() for each in (mine, its))
        total += (first / first.norm() - second / second.norm()).square().sum() / 9
    torch.testing.assert_close(attention_loss(student, teacher), total / 3)


def test_similarity_equals_a_loop_over_pairs_of_images(draws):
    student, teacher = maps(draws, 4, 3, batch=5), maps(draws, 6, 2, batch=5)

    def rows(features):
        inner = torch.tensor([[(a * b).sum() for b in features] for a in features], dtype=torch.float64)
        return torch.stack([row / row.norm() for row in inner])

    expected = sum((a - b) ** 2 for a, b in zip(rows(student).flatten(), rows(teacher).flatten(), strict=True)) / 25
    torch.testing.assert_close(similarity_loss(student, teacher), expected)


def test_pkt_equals_a_loop_over_pairs_of_images(draws):
    student, teacher = maps(draws, 4, 3, batch=5), maps(draws, 6, 2, batch=5)

    def rows(features):
        vectors = [each.mean((1, 2)) for each in features]
        inner = [[(F.cosine_similarity(a, b, dim=0) + 1) / 2 for b in vectors] for a in vectors]
        return [[value / sum(row) for value in row] for row in inner]

    expected = torch.zeros((), dtype=torch.float64)
    for mine, its in zip(rows(student), rows(teacher), strict=True):
        for p_student, p_teacher in zip(mine, its, strict=True):
            expected += p_teacher * torch.log((p_teacher + 1e-7) / (p_student + 1e-7)) / 25
    torch.testing.assert_close(pkt_loss(student, teacher), expected)
    torch.testing.assert_close(pkt_loss(student.mean((2, 3)), teacher.mean((2, 3))), expected)
    torch.testing.assert_close(pkt_loss(teacher, teacher), torch.zeros((), dtype=torch.float64))


def test_hint_is_the_mean_squared_error_of_maps_brought_to_one_size(draws):
    regressed, teacher = maps(draws, 5, 4), maps(draws, 5, 2)
    pooled = regressed.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
    torch.testing.assert_close(hint_loss(regressed, teacher), ((pooled - teacher) ** 2).mean())
    with pytest.raises(ValueError, match="hint maps have 5 and 6 channels"):
        hint_loss(regressed, maps(draws, 6, 2))


@pytest.mark.parametrize("loss", [nst_loss, attention_loss, hint_loss])
def test_losses_of_maps_refuse_vectors_and_other_batches(draws, loss):
    features = maps(draws, 4, 3)
    with pytest.raises(ValueError, match="feature maps need 4 axes"):
        loss(features.flatten(2), features)
    with pytest.raises(ValueError, match="come from 3 and 2 images"):
        loss(features, features[:2])


@pytest.mark.parametrize("loss", [nst_loss, attention_loss, similarity_loss, pkt_loss, hint_loss])
@pytest.mark.parametrize("size", [2, 3])
def test_gradients_of_feature_losses_are_right_and_none_reaches_the_teacher(draws, loss, size):
    student, teacher = maps(draws, 5, size).requires_grad_(), maps(draws, 5, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda features: loss(features, teacher), (student,))
    loss(student, teacher).backward()
    assert teacher.grad is None


def test_gradients_of_distillation_are_right(logits):
    student, teacher, labels = logits
    student.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda values: distillation_loss(values, teacher, labels, temperature=3, alpha=0.4), (student,)
    )

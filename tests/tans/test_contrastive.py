import pytest
import torch
import torch.nn.functional as F

from tans.contrastive import contrastive_loss, performance_loss

NUM = 140


def unit(num: int, width: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(num, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def naive(queries: torch.Tensor, models: torch.Tensor, margin: float, num: int, variant: str) -> float:
    """Entry by entry, as the released code is described."""
    size, total = len(queries), 0.0
    cosines = [[float(queries[i].double() @ models[j].double()) for j in range(size)] for i in range(size)]
    for i in range(size):
        row = [0.0 if j == i else cosines[i][j] for j in range(size) if j != i or variant == "official"]
        column = [0.0 if j == i else cosines[j][i] for j in range(size) if j != i or variant == "official"]
        for line in (row, column):
            total += sum(max(0.0, value + margin - cosines[i][i]) for value in sorted(line)[::-1][:num])
    return total


def test_orthonormal_pairs_cost_nothing() -> None:
    assert contrastive_loss(torch.eye(NUM), torch.eye(NUM)).item() == 0


def test_a_collapsed_space_costs_what_the_specification_says() -> None:
    same = F.normalize(torch.ones(NUM, 128), dim=1)
    assert contrastive_loss(same, same).item() == pytest.approx(7_784, rel=1e-3)


def test_opposite_pairs_cost_what_the_specification_says() -> None:
    assert contrastive_loss(torch.eye(NUM), -torch.eye(NUM)).item() == pytest.approx(47_040, rel=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_all_negatives_give_the_closed_form(seed: int) -> None:
    queries, models = unit(20, 16, seed).double(), unit(20, 16, 100 + seed).double()
    cosines, margin = queries @ models.T, 0.2
    own, apart = cosines.diagonal(), ~torch.eye(20, dtype=torch.bool)
    closed = F.relu(margin + cosines - own[:, None])[apart].sum() + F.relu(margin + cosines - own[None])[apart].sum()
    clean = contrastive_loss(queries, models, variant="clean")
    assert clean.item() == pytest.approx(closed.item(), rel=1e-9)
    official = closed + 2 * F.relu(margin - own).sum()
    for largest in (None, 20, 140):
        found = contrastive_loss(queries, models, max_negatives=largest)
        assert found.item() == pytest.approx(official.item(), rel=1e-5)


@pytest.mark.parametrize("variant", ["official", "clean"])
@pytest.mark.parametrize("num", [1, 3, 11])
def test_few_negatives_give_what_plain_code_gives(variant: str, num: int) -> None:
    queries, models = unit(12, 4, 7), unit(12, 4, 8)
    found = contrastive_loss(queries, models, max_negatives=num, variant=variant)  # type: ignore[arg-type]
    assert found.item() == pytest.approx(naive(queries, models, 0.2, num, variant), rel=1e-5)


def test_one_term_is_the_rows_alone() -> None:
    queries, models = unit(9, 4, 1), unit(9, 4, 2)
    rows = contrastive_loss(queries, models, is_symmetric=False)
    columns = contrastive_loss(models, queries, is_symmetric=False)
    assert (rows + columns).item() == pytest.approx(contrastive_loss(queries, models).item(), rel=1e-5)


def test_the_order_of_pairs_and_of_the_two_sides_does_not_matter() -> None:
    queries, models = unit(15, 6, 3), unit(15, 6, 4)
    expected = contrastive_loss(queries, models, max_negatives=4).item()
    order = torch.randperm(15)
    assert contrastive_loss(queries[order], models[order], max_negatives=4).item() == pytest.approx(expected, rel=1e-5)
    assert contrastive_loss(models, queries, max_negatives=4).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("variant", ["official", "clean"])
def test_gradients_are_those_of_finite_differences(variant: str) -> None:
    queries, models = (unit(6, 5, seed).double().requires_grad_() for seed in (11, 12))
    assert torch.autograd.gradcheck(
        lambda q, m: contrastive_loss(q, m, max_negatives=3, variant=variant),  # type: ignore[arg-type]
        (queries, models),
    )


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="max_negatives is 0"):
        contrastive_loss(torch.eye(3), torch.eye(3), max_negatives=0)
    with pytest.raises(ValueError, match=r"\(B, D\) are needed"):
        contrastive_loss(torch.eye(3), torch.eye(4))


def test_the_performance_loss_is_a_mean_of_squares() -> None:
    assert performance_loss(torch.tensor([0.5, 1.0]), torch.tensor([0.0, 1.0])).item() == pytest.approx(0.125)

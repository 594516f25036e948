import logging

import pytest
import torch

from common.features.sets import FeatureSet


def make(counts: list[int], names: list[str] | None = None) -> FeatureSet:
    """Feature j of class c is (c, j): every drawn vector tells where it comes from."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    places = torch.cat([torch.arange(count) for count in counts])
    return FeatureSet(
        extractor="means-00000000",
        source="flags",
        description="flags",
        features=torch.stack([labels, places], dim=1).float(),
        labels=labels,
        class_names=tuple(names or [f"class{index}" for index in range(len(counts))]),
    )


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_draw_has_distinct_images_of_every_class() -> None:
    found = make([5, 9, 4]).draw(50, 4, seeded())
    assert found.shape == (50, 3, 4, 2)
    assert torch.equal(found[..., 0], torch.arange(3.0)[None, :, None].expand(50, 3, 4))
    for draw in found[..., 1].long().tolist():
        for places, count in zip(draw, [5, 9, 4], strict=True):
            assert len({*places}) == 4
            assert set(places) <= set(range(count))


def test_every_image_is_drawn_equally_often_and_at_every_place() -> None:
    num_draws, count, num_sample = 6000, 6, 3
    places = make([count, 2 * count]).draw(num_draws, num_sample, seeded(1))[:, 0, :, 1].long()
    share = torch.bincount(places.flatten(), minlength=count) / num_draws
    deviation = (0.5 * 0.5 / num_draws) ** 0.5  # each image is in half of the draws
    assert float((share - 0.5).abs().max()) < 5 * deviation
    pairs = torch.zeros(count, count)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        pairs.index_put_((places[:, first], places[:, second]), torch.ones(num_draws), accumulate=True)
    together = (pairs + pairs.T)[torch.triu_indices(count, count, 1).unbind()] / num_draws
    assert float((together - 0.2).abs().max()) < 5 * (0.2 * 0.8 / num_draws) ** 0.5, "all pairs are equally likely"


def test_classes_may_be_chosen_in_any_order_and_twice() -> None:
    features = make([5, 6, 7, 8])
    found = features.draw(3, 5, seeded(), classes=torch.tensor([2, 0, 2]))
    assert found[..., 0].unique(dim=1).shape[:2] == (3, 2)
    assert found[0, :, 0, 0].tolist() == [2, 0, 2]


def test_the_same_generator_gives_the_same_draw() -> None:
    features = make([30, 20])
    assert torch.equal(features.draw(4, 10, seeded(3)), features.draw(4, 10, seeded(3)))
    assert not torch.equal(features.draw(4, 10, seeded(3)), features.draw(4, 10, seeded(4)))


def test_small_classes_are_drawn_with_replacement_after_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    features = make([2, 30])
    with caplog.at_level(logging.WARNING):
        first = features.draw(200, 20, seeded())
        features.draw(1, 25, seeded())
    assert [record.message for record in caplog.records] == [
        "flags: 1 classes have fewer than 20 images (the smallest has 2): theirs are drawn with replacement"
    ]
    small, large = first[:, 0, :, 1], first[:, 1, :, 1]
    assert abs(float(small.mean()) - 0.5) < 5 * 0.5 / 4000**0.5
    assert all(len({*draw}) == 20 for draw in large.tolist()), "the others are still without replacement"


def test_an_empty_class_is_named_only_where_it_is_asked_for() -> None:
    features = make([3, 0, 4], names=["red", "green", "blue"])
    with pytest.raises(ValueError, match="flags has no image of class green"):
        features.draw(1, 2, seeded())
    assert features.draw(1, 2, seeded(), classes=torch.tensor([0, 2])).shape == (1, 2, 2, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1), "both must be at least 1"),
        ((1, 0), "both must be at least 1"),
        ((1, 1, seeded(), torch.tensor([0, 5])), "flags has classes 0 to 1"),
        ((1, 1, seeded(), torch.tensor([], dtype=torch.int64)), "at least one"),
    ],
)
def test_impossible_draws_are_refused(arguments: tuple, message: str) -> None:  # type: ignore[type-arg]
    given = arguments if len(arguments) > 2 else (*arguments, seeded())
    with pytest.raises(ValueError, match=message):
        make([2, 2]).draw(*given)


def test_many_draws_of_a_large_class_are_made_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.features.sets._KEYS_AT_ONCE", 100)
    found = make([40, 30]).draw(7, 20, seeded())
    assert found.shape == (7, 2, 20, 2)
    assert all(len({*places}) == 20 for places in found[..., 1].flatten(0, 1).tolist())
    assert len({tuple(sorted(draw)) for draw in found[:, 0, :, 1].tolist()}) == 7


def test_labels_out_of_order_or_range_are_refused() -> None:
    good = make([2, 2])
    for labels in ([0, 1, 0, 1], [0, 0, 1, 2], [-1, 0, 1, 1], [0, 1]):
        with pytest.raises(ValueError, match="flags"):
            FeatureSet(
                extractor="",
                source="flags",
                description="",
                features=good.features,
                labels=torch.tensor(labels),
                class_names=good.class_names,
            )

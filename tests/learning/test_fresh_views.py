# SPDX-License-Identifier: Apache-2.0
"""Tests of augmentation: each step does what it says, to an image alone, its map along."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.meta_obj import get_track_meta
from numpy.typing import NDArray

from consilium.errors import ConfigError
from consilium.learning.fresh_views import STEPS, Step, augmented

KEY = b"round 1"
MOVING = ("affine", "crop", "flip", "flip-vertical", "elastic")


def images(count: int, channels: int = 1, side: int = 24) -> NDArray[np.uint8]:
    """Smooth blobs on grey, all different."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(30, 220, (count, channels, 6, 6)))
    grown = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")
    return grown.numpy().astype(np.uint8)


def always(name: str, amount: float | None = None) -> list[Step]:
    return [Step(name=name, probability=1.0, amount=amount)]


def only(given_: NDArray[np.uint8], steps: list[Step], key: bytes = KEY) -> NDArray[np.uint8]:
    return augmented(given_, None, steps, key)[0]


# -- One image alone ------------------------------------------------------------------


@given(kept=st.sets(st.integers(0, 5), min_size=1), key=st.binary(max_size=8))
@settings(max_examples=10, deadline=None)
def test_a_view_does_not_depend_on_other_images(kept: set[int], key: bytes) -> None:
    everybody, some = images(6), sorted(kept)
    steps = [Step(name=name) for name in STEPS]

    alone = only(everybody[some], steps, key)

    np.testing.assert_array_equal(alone, only(everybody, steps, key)[some])


@pytest.mark.parametrize("name", STEPS)
def test_every_step_changes_the_image_and_repeats_itself(name: str) -> None:
    given_ = images(3, channels=3)

    found = only(given_, always(name))

    assert found.shape == given_.shape
    assert found.dtype == np.uint8
    assert all((one != other).any() for one, other in zip(found, given_, strict=True))
    np.testing.assert_array_equal(found, only(given_, always(name)))


@pytest.mark.parametrize("name", sorted(set(STEPS) - {"flip", "flip-vertical"}))
def test_another_key_gives_another_view(name: str) -> None:
    first, second = (only(images(1), always(name), key) for key in (b"1", b"2"))

    assert (first != second).any()


def test_a_step_is_done_as_often_as_it_says() -> None:
    many = images(400, side=6)

    found = only(many, [Step(name="flip", probability=0.25)])

    changed = (found != many).any(axis=(1, 2, 3)).mean()
    assert 0.18 < changed < 0.32


def test_global_state_stays() -> None:
    before, switch = torch.get_rng_state(), get_track_meta()
    ours = repr(np.random.get_state())

    only(images(2), [Step(name=name) for name in STEPS])

    assert torch.equal(torch.get_rng_state(), before)
    assert repr(np.random.get_state()) == ours
    assert get_track_meta() == switch


# -- Maps move along ------------------------------------------------------------------


@pytest.mark.parametrize("name", MOVING)
def test_a_map_moves_with_its_image(name: str) -> None:
    maps = (images(4)[:, 0] > 120).astype(np.uint8)
    shown = maps[:, None] * np.uint8(200)

    found, moved = augmented(shown, maps, always(name), KEY)

    assert moved is not None
    assert (moved != maps).mean() > 0.01
    agree = (found[:, 0] > 100) == (moved > 0)
    assert agree.mean() > 0.98  # all but edges, where one is smooth and the other is not


@pytest.mark.parametrize("name", sorted(set(STEPS) - set(MOVING)))
def test_steps_of_grey_levels_leave_maps_alone(name: str) -> None:
    maps = (images(2)[:, 0] > 120).astype(np.uint8)

    _, moved = augmented(images(2), maps, always(name), KEY)

    np.testing.assert_array_equal(moved, maps)


@pytest.mark.parametrize("name", STEPS)
def test_no_class_is_made_up(name: str) -> None:
    maps = (images(3)[:, 0] > 120).astype(np.uint8) * np.uint8(5)

    _, moved = augmented(images(3), maps, always(name), KEY)

    assert moved is not None
    assert set(np.unique(moved)) == {0, 5}


# -- What each does -------------------------------------------------------------------


def test_flips_are_exact() -> None:
    given_ = images(2)

    np.testing.assert_array_equal(only(given_, always("flip")), given_[..., ::-1])
    np.testing.assert_array_equal(only(given_, always("flip-vertical")), given_[..., ::-1, :])


def test_brightness_adds_at_most_its_amount() -> None:
    given_ = images(20)

    shift = only(given_, always("brightness", 0.1)).astype(int) - given_

    assert 5 < np.abs(shift).max() <= 26
    assert (np.ptp(shift, axis=(1, 2, 3)) <= 1).all()  # the same for every pixel


def test_contrast_keeps_the_mean() -> None:
    given_ = images(20)

    found = only(given_, always("contrast", 0.2))

    np.testing.assert_allclose(found.mean((1, 2, 3)), given_.mean((1, 2, 3)), atol=1)
    spread = found.std((1, 2, 3)) / given_.std((1, 2, 3))
    assert (np.abs(spread - 1) < 0.22).all()


def test_gamma_keeps_order_and_range() -> None:
    given_ = images(5)

    found = only(given_, always("gamma", 2.0))

    assert (np.abs(found.min((1, 2, 3)).astype(int) - given_.min((1, 2, 3))) <= 1).all()
    assert (np.abs(found.max((1, 2, 3)).astype(int) - given_.max((1, 2, 3))) <= 1).all()


def test_noise_has_its_deviation() -> None:
    given_ = images(20)

    added = only(given_, always("noise", 0.05)).astype(float) - given_

    assert added.std() == pytest.approx(0.05 * 255, rel=0.05)


def test_blur_smooths() -> None:
    rough = np.random.default_rng(0).integers(0, 255, (3, 1, 24, 24)).astype(np.uint8)

    assert (only(rough, always("blur", 2.0)).std((1, 2, 3)) < 0.8 * rough.std((1, 2, 3))).all()


# -- Refusals -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("mixup", "no gradient is one patient's and no clip bounds what one adds"),
        ("clahe", "MONAI has none"),
        ("rotate", "expected one of affine, crop, flip"),
    ],
)
def test_other_steps_are_refused_with_the_reason(name: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Step(name=name)


@pytest.mark.parametrize(("probability", "amount"), [(0.0, None), (1.1, None), (0.5, -1.0)])
def test_numbers_out_of_range_are_refused(probability: float, amount: float | None) -> None:
    with pytest.raises(ConfigError, match="expected"):
        Step(name="noise", probability=probability, amount=amount)


def test_tables_are_refused() -> None:
    with pytest.raises(ConfigError, match="remove it for tables"):
        augmented(np.zeros((2, 3), np.uint8), None, always("flip"), KEY)

# SPDX-License-Identifier: Apache-2.0
"""Kinds of picture: what passes, what is refused, and how often on real pictures."""

import numpy as np
import pytest
from tests.phone.made import CHEST, FUNDUS, chest, fundus, photograph

from consilium.data.rendering import in_channels
from consilium.errors import DataError
from consilium.learning.familiarity import (
    Kind,
    colourfulness,
    learn_kind,
    standardised,
    unlearnt,
)


def test_its_own_centre_is_not_strange() -> None:
    assert CHEST.knows(chest()[None], 0.0)


def test_a_fundus_is_no_chest_and_a_chest_no_fundus() -> None:
    eye, lung = fundus().transpose(2, 0, 1), chest()[None]

    assert FUNDUS.knows(eye, colourfulness(eye))
    assert not CHEST.knows(in_channels(eye, 1), 0.0)
    assert not FUNDUS.knows(in_channels(lung, 3), 0.0)


@pytest.mark.parametrize("kind", [CHEST, FUNDUS], ids=lambda kind: kind.name)
def test_noise_and_emptiness_are_strange(kind: Kind) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (kind.channels, 64, 64), dtype=np.uint8)

    assert kind.strangeness(noise) > kind.limit
    assert kind.strangeness(np.zeros_like(noise)) > kind.limit


def test_colour_is_refused_where_the_kind_is_grey() -> None:
    stripes = photograph().transpose(2, 0, 1)

    assert colourfulness(stripes) > CHEST.most_colour
    assert not CHEST.knows(chest()[None], colourfulness(stripes))


def test_light_and_contrast_do_not_matter() -> None:
    dim = (chest() // 2 + 30)[None]

    assert CHEST.strangeness(dim) == pytest.approx(CHEST.strangeness(chest()[None]), abs=0.01)


def test_strangeness_is_the_part_off_the_directions() -> None:
    grids = np.random.default_rng(1).integers(0, 256, (30, 1, 4, 4), dtype=np.uint8)
    kind = unlearnt("made-up", frame="squash", grid=4, channels=1)

    learnt = learn_kind(kind, grids, directions=3, passing=0.5)

    rows = standardised(grids) - learnt.centre
    slow = [
        float(np.mean((row - sum(d * (d @ row) for d in learnt.directions)) ** 2)) for row in rows
    ]
    assert learnt.strangenesses(grids) == pytest.approx(slow)
    held_out = learnt.strangenesses(grids[2::3])
    assert np.mean(held_out <= learnt.limit + 1e-4) == pytest.approx(0.5, abs=0.11)


def test_a_picture_below_the_grid_is_refused() -> None:
    with pytest.raises(DataError, match="expected 12 px or more"):
        CHEST.strangeness(np.zeros((1, 8, 8), np.uint8))

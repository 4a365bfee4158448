# SPDX-License-Identifier: Apache-2.0
"""Which kind of picture a model knows, and what is refused where nobody can say."""

from pathlib import Path

import pytest

from consilium.adapters.picture_kinds import kind_of
from consilium.errors import ConfigError


@pytest.mark.parametrize(
    ("source", "wished", "words"),
    [
        ("ward.npz", None, r"nobody said what pictures of ward\.npz look like"),
        ("ward.npz", "knee", "kind 'knee' does not exist; expected one of chest-x-ray, fundus"),
        ("cxr64", None, r"published pictures cxr64, which are not here .* or --kind none"),
        ("ward.npz", "fundus", "published pictures retinamnist, which are not here"),
    ],
)
def test_what_cannot_be_learnt_is_refused(
    source: str, wished: str | None, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        kind_of(source, wished, tmp_path)


def test_none_is_a_word_too(tmp_path: Path) -> None:
    assert kind_of("cxr64", "none", tmp_path) is None


@pytest.mark.data
@pytest.mark.parametrize(
    ("source", "name", "shape"),
    [("pneumoniamnist", "chest-x-ray", (16, 144)), ("retinamnist", "fundus", (8, 192))],
)
def test_the_kind_of_a_published_source_is_learnt(
    source: str, name: str, shape: tuple[int, int], real_data: Path
) -> None:
    kind = kind_of(source, None, real_data)

    assert kind is not None
    assert (kind.name, kind.directions.shape) == (name, shape)

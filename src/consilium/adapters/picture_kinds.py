# SPDX-License-Identifier: Apache-2.0
"""The kinds of picture that can be learnt from published pictures, when a model is exported.

Nothing learnt is shipped: the published pictures (Kermany et al. 2018 and RetinaMNIST, both CC BY
4.0) are read where they lie. Only their validation splits are taken. Guarantees: no record of any
other source is touched, so a kind says nothing of a hospital's patients.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import numpy as np

from consilium.data.framing import framed
from consilium.data.sources import read_splits
from consilium.errors import ConfigError, DataError
from consilium.learning.familiarity import Kind, learn_kind, unlearnt

NO_KIND: Final = "none"
_PASSING: Final = 0.98
_OF_SOURCE: Final[Mapping[str, str]] = {
    "cxr64": "chest-x-ray",
    "pneumoniamnist": "chest-x-ray",
    "retinamnist": "fundus",
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Published:
    """A kind to learn, the published source of its examples, and how many directions."""

    kind: Kind
    source: str
    directions: int


_PUBLISHED: Final[Mapping[str, _Published]] = {
    "chest-x-ray": _Published(
        kind=unlearnt("chest-x-ray", frame="squash", grid=12, channels=1, most_colour=32.0),
        source="cxr64",
        directions=16,
    ),
    "fundus": _Published(
        kind=unlearnt("fundus", frame="crop", grid=8, channels=3),
        source="retinamnist",
        directions=8,
    ),
}
KINDS: Final = tuple(_PUBLISHED)


def kind_of(source: str, wished: str | None, data: Path | None) -> Kind | None:
    """Returns the kind of picture that a model of `source` knows; None: nobody can tell.

    Args:
        source: Of the project's data.
        wished: A name, or "none"; None takes what is known of the source.
        data: Folder where the published pictures lie.

    Raises:
        ConfigError: Nobody said it, there is no such kind, or its pictures are not here.
    """
    name = wished or _OF_SOURCE.get(source)
    if name is None:
        raise ConfigError(
            f"nobody said what pictures of {source} look like; expected --kind chest-x-ray or "
            "fundus, or --kind none: then nothing is refused, and the page says so"
        )
    return None if name == NO_KIND else learn_published(name, data)


def learn_published(name: str, data: Path | None) -> Kind:
    """Returns the kind called `name`, learnt from the published pictures in `data`.

    Raises:
        ConfigError: There is no such kind, or its pictures are not here.
    """
    if name not in _PUBLISHED:
        raise ConfigError(f"kind {name!r} does not exist; expected one of {', '.join(KINDS)}")
    wanted = _PUBLISHED[name]
    try:
        splits = read_splits(wanted.source, data, image_size=None, unit="record")
    except DataError as error:
        raise ConfigError(
            f"kind {name} is learnt from the published pictures {wanted.source}, which are not "
            f"here ({error}); expected --data FOLDER with them, or --kind none"
        ) from None
    pictures = splits.validation.inputs.astype(np.uint8, copy=False)
    grids = np.stack([framed(one, wanted.kind.grid, wanted.kind.frame) for one in pictures])
    return learn_kind(wanted.kind, grids, directions=wanted.directions, passing=_PASSING)

# SPDX-License-Identifier: Apache-2.0
"""Records that are in two splits under different names: exact copies and near copies.

Patients of two splits always differ by identifier, but a hospital may have given one person two
identifiers; the same image on both sides shows it. The report holds counts and row numbers, no
pixel and no identifier, and stays at the site: what a person decides from it is not automatic.

An exact copy is equal byte for byte. A near copy agrees in two views that forgive compression,
noise and a change of brightness: the signs of the horizontal differences of an 8 x 9 thumbnail
(64 bits, Hamming distance), and the correlation of 32 x 32 thumbnails. The first alone would not
do: chest X-rays are so alike that it pairs thousands of strangers. A near pair is a hint to look:
among images that are alike as a whole (fundus discs, digits) strangers agree in both views.

Not here: copies that were turned, mirrored or cropped, and near copies of tables.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from consilium.data.records import SPLITS, Inputs, SplitName, Splits
from consilium.data.resizing import overlaps

MAX_DISTANCE: Final = 8  # of 64 bits
MIN_CORRELATION: Final = 0.98  # strangers among 5,856 chest X-rays stay below 0.98
MOST_PAIRS: Final = 100_000  # listed of two splits: a thousand black images make a million
_THUMBNAIL: Final = 32
_CHUNK: Final = 512  # rows compared at a time
_STEP: Final = 4  # of the pixels on a side, every so many tell images apart
_LOOK: Final = 32  # images made small at a time, so that they stay in the cache


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Overlap:
    """What two splits share.

    Attributes:
        first: The split that column 0 of the pairs points into.
        second: The split that column 1 points into.
        exact: Row numbers of exact copies, shape (pairs, 2).
        near: Row numbers of near copies that are not exact, shape (pairs, 2).
    """

    first: SplitName
    second: SplitName
    exact: NDArray[np.intp]
    near: NDArray[np.intp]


@final
@dataclass(frozen=True, slots=True)
class DuplicateReport:
    """The overlap of each pair of splits."""

    overlaps: tuple[Overlap, ...]

    @property
    def exact_count(self) -> int:
        """How many pairs of records in different splits are equal."""
        return sum(len(overlap.exact) for overlap in self.overlaps)

    @property
    def near_count(self) -> int:
        """How many pairs of records in different splits are nearly equal."""
        return sum(len(overlap.near) for overlap in self.overlaps)

    def summary(self) -> str:
        """Returns one line: the counts for each pair of splits."""
        return "; ".join(
            f"{pair.first}/{pair.second}: {_many(pair.exact)} exact, {_many(pair.near)} near"
            for pair in self.overlaps
        )


def _many(pairs: NDArray[np.intp]) -> str:
    return f"{len(pairs)}" if len(pairs) < MOST_PAIRS else f"at least {len(pairs)}"


def find_duplicates(splits: Splits, *, max_distance: int = MAX_DISTANCE) -> DuplicateReport:
    """Returns the copies between each two of the three splits.

    Args:
        splits: The dataset.
        max_distance: Most bits of 64 in which near copies may differ; 0 to 64.
    """
    inputs = {name: splits.part(name).inputs for name in SPLITS}
    return find_copies(inputs, max_distance=max_distance)


def find_copies(
    inputs: Mapping[SplitName, Inputs], *, max_distance: int = MAX_DISTANCE
) -> DuplicateReport:
    """Returns the copies between each two of the three splits, from their arrays alone.

    Args:
        inputs: Of every split; may be memory-mapped, and a split may be empty.
        max_distance: As for `find_duplicates`.
    """
    looks = {name: _look(inputs[name]) for name in SPLITS}
    keys = {name: _keys(inputs[name]) for name in SPLITS}
    found = []
    for first, second in combinations(SPLITS, 2):
        alike = _exact_pairs(keys[first], keys[second])
        exact = _equal(alike, inputs[first], inputs[second])
        near = _near_pairs(looks[first], looks[second], max_distance)
        equal = set(map(tuple, exact.tolist()))
        keep = np.array([tuple(pair) not in equal for pair in near.tolist()], dtype=bool)
        found.append(Overlap(first=first, second=second, exact=exact, near=near[keep]))
    return DuplicateReport(tuple(found))


# -- Exact ----------------------------------------------------------------------------


def contents(inputs: Inputs) -> list[bytes]:
    """Returns the BLAKE2b of each record's bytes, 16 bytes each."""
    return [
        hashlib.blake2b(np.ascontiguousarray(row).data, digest_size=16).digest() for row in inputs
    ]


def _keys(inputs: Inputs) -> list[bytes]:
    """Returns what exact copies share, and few others: of images a part of the pixels' hash."""
    return contents(inputs if inputs.ndim < 4 else inputs[..., ::_STEP, ::_STEP])


def _equal(pairs: NDArray[np.intp], first: Inputs, second: Inputs) -> NDArray[np.intp]:
    """Returns those of the pairs that are equal byte for byte."""
    keep = [np.array_equal(first[one], second[other]) for one, other in pairs]
    kept: NDArray[np.intp] = pairs[np.array(keep, dtype=bool)]
    return kept


def _exact_pairs(first: list[bytes], second: list[bytes]) -> NDArray[np.intp]:
    rows: dict[bytes, list[int]] = {}
    for row, key in enumerate(first):
        rows.setdefault(key, []).append(row)
    pairs = ((row, other) for other, key in enumerate(second) for row in rows.get(key, ()))
    return np.array(sorted(islice(pairs, MOST_PAIRS)), np.intp).reshape(-1, 2)


# -- Near -----------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class _Look:
    """What near copies share: 64 bits each, and a thumbnail of mean 0 and length 1 each."""

    bits: NDArray[np.uint64]
    thumbnails: NDArray[np.float32]


def _look(inputs: Inputs) -> _Look:
    """Returns the two views of each image, of a volume's middle plane; a table has none."""
    if inputs.ndim == 5:
        return _look(inputs[:, :, inputs.shape[2] // 2].astype(np.uint8, copy=False))
    if inputs.ndim != 4:
        return _Look(np.zeros(0, np.uint64), np.zeros((0, _THUMBNAIL**2), np.float32))
    chunks = [_look_at(inputs[k : k + _LOOK]) for k in range(0, len(inputs), _LOOK)]
    empty = _Look(np.zeros(0, np.uint64), np.zeros((0, _THUMBNAIL**2), np.float32))
    return _Look(
        np.concatenate([empty.bits, *(chunk.bits for chunk in chunks)]),
        np.concatenate([empty.thumbnails, *(chunk.thumbnails for chunk in chunks)]),
    )


def _look_at(images: Inputs) -> _Look:
    thumbnails = _thumbnails(images)
    small = _resized(thumbnails, 8, 9)
    bits = np.packbits((small[:, :, 1:] > small[:, :, :-1]).reshape(-1, 64), axis=1)
    flat = thumbnails.reshape(len(images), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(flat, axis=1, keepdims=True)
    return _Look(bits.view(np.uint64).ravel(), flat / np.maximum(lengths, 1e-6))


def _thumbnails(images: Inputs) -> NDArray[np.float32]:
    """Returns the mean grey of 32 x 32 areas; where they are whole pixels they are summed."""
    count, channels, height, width = images.shape
    if height % _THUMBNAIL or width % _THUMBNAIL:
        return _resized(images.mean(axis=1, dtype=np.float32), _THUMBNAIL, _THUMBNAIL)
    bands = images.astype(np.uint8, copy=False).reshape(
        count, channels, _THUMBNAIL, height // _THUMBNAIL, width
    )
    rows = _added(bands, 3)
    areas = _added(rows.reshape(count, channels, _THUMBNAIL, _THUMBNAIL, -1), 4).sum(axis=1)
    return np.asarray(areas / (images[0].size / _THUMBNAIL**2), np.float32)


def _added(parts: NDArray[np.unsignedinteger], axis: int) -> NDArray[np.uint32]:
    """Returns the sum along a short axis, slice by slice: quicker than the library's."""
    first, *others = np.moveaxis(parts, axis, 0)
    total: NDArray[np.uint32] = first.astype(np.uint32)
    for one in others:
        total += one
    return total


def _resized(grey: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    rows = overlaps(grey.shape[1], height).astype(np.float32) / grey.shape[1]
    columns = overlaps(grey.shape[2], width).astype(np.float32) / grey.shape[2]
    return np.asarray(rows @ grey @ columns.T, np.float32)


def _near_pairs(first: _Look, second: _Look, max_distance: int) -> NDArray[np.intp]:
    pairs = [np.zeros((0, 2), np.intp)]
    for start in range(0, len(first.bits), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        distances = np.bitwise_count(first.bits[chunk, None] ^ second.bits[None, :])
        alike = first.thumbnails[chunk] @ second.thumbnails.T >= MIN_CORRELATION
        near = np.argwhere((distances <= max_distance) & alike)
        pairs.append(near[:MOST_PAIRS] + np.array([start, 0], np.intp))
        if sum(map(len, pairs)) >= MOST_PAIRS:
            break
    return np.concatenate(pairs)[:MOST_PAIRS]

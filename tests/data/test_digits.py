# SPDX-License-Identifier: Apache-2.0
"""Tests of the digits: IDX files as they should be and damaged, and the bundled set."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from consilium.data.digits import read_digits, read_mnist
from consilium.data.sources import read_splits
from consilium.errors import DataError


def idx(*sizes: int, kind: int = 8) -> bytes:
    values = np.arange(np.prod(sizes), dtype=np.uint32) % 10
    head = bytes([0, 0, kind, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes)
    return head + values.astype(np.uint8).tobytes()


def write(folder: Path, name: str, content: bytes) -> None:
    (folder / "mnist").mkdir(exist_ok=True)
    (folder / "mnist" / name).write_bytes(gzip.compress(content, mtime=0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "train-images-idx3-ubyte.gz", idx(5010, 3, 3))
    write(tmp_path, "train-labels-idx1-ubyte.gz", idx(5010))
    write(tmp_path, "t10k-images-idx3-ubyte.gz", idx(20, 3, 3))
    write(tmp_path, "t10k-labels-idx1-ubyte.gz", idx(20))
    return tmp_path


# -- MNIST ----------------------------------------------------------------------------


def test_the_last_5000_training_images_validate(folder: Path) -> None:
    splits = read_splits("mnist", folder, image_size=None, unit="record")

    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [10, 5000, 20]
    assert splits.train.labels.tolist() == list(range(10))
    assert splits.train.inputs[1, 0].tolist() == [[9, 0, 1], [2, 3, 4], [5, 6, 7]]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (idx(20, 3, 3)[:-1], "found 179 values for sizes"),
        (idx(20, 3, 3) + b"\0", "found 181 values for sizes"),
        (idx(20, 9), "another kind of file"),
        (idx(20, 3, 3, kind=13), "another kind of file"),
        (idx(20, 3, 3)[:9], "cannot be unpacked"),
        (idx(20, 3, 3)[:12], "found 0 values for sizes"),
        (b"", "another kind of file"),
    ],
)
def test_another_idx_file_is_refused(folder: Path, content: bytes, reason: str) -> None:
    write(folder, "t10k-images-idx3-ubyte.gz", content)

    with pytest.raises(DataError, match=f"t10k-images.*{reason}"):
        read_mnist(folder)


@pytest.mark.parametrize("content", [b"plain", gzip.compress(idx(20), mtime=0)[:-9]])
def test_what_cannot_be_unpacked_is_refused(folder: Path, content: bytes) -> None:
    (folder / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(content)

    with pytest.raises(DataError, match=r"t10k-labels.*cannot be unpacked"):
        read_mnist(folder)


def test_too_few_training_images_are_refused(folder: Path) -> None:
    write(folder, "train-images-idx3-ubyte.gz", idx(5000, 3, 3))
    write(folder, "train-labels-idx1-ubyte.gz", idx(5000))

    with pytest.raises(DataError, match="found 5000 MNIST training images"):
        read_mnist(folder)


def test_images_without_labels_are_refused(folder: Path) -> None:
    write(folder, "t10k-labels-idx1-ubyte.gz", idx(19))

    with pytest.raises(DataError, match=r"labels of int64 \(19,\) for 20 records"):
        read_splits("mnist", folder, image_size=None, unit="record")


@pytest.mark.data
def test_real_mnist(real_data: Path) -> None:
    splits = read_splits("mnist", real_data, image_size=None, unit="record")

    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [
        55_000,
        5_000,
        10_000,
    ]
    assert splits.train.labels[:5].tolist() == [5, 0, 4, 1, 9]


# -- Digits of scikit-learn -----------------------------------------------------------


def test_bundled_digits_are_cut_at_60_and_80_percent() -> None:
    splits = read_splits("digits", None, image_size=None, unit="record")

    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [
        1078,
        359,
        360,
    ]


def test_the_division_of_bundled_digits_never_changes() -> None:
    splits = read_splits("digits", None, image_size=None, unit="record")

    assert splits.test.class_counts(10).tolist() == [31, 33, 36, 43, 35, 38, 31, 37, 37, 39]


def test_bundled_digits_use_the_whole_range_of_grey() -> None:
    train = read_digits().parts["train"]

    assert (train.inputs.min(), train.inputs.max()) == (0, 255)

# SPDX-License-Identifier: Apache-2.0
"""Records of patients, and the three splits of a dataset.

Guarantees, held on construction: every record has a label and names its patient (a missing
identifier is refused, not guessed), no patient is in two splits, arrays cannot be written to,
and neither a `repr` nor an error message shows a pixel, a value or an identifier.

Not here: where records come from (`sources`), how sites share them (`partition`), and whether
two identifiers mean one person, which only the hospital knows (`duplicates` helps to look).
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Final, Literal, TypeAlias, TypeVar, final, get_args

import numpy as np
from numpy.typing import NDArray

from consilium.errors import DataError

Unit: TypeAlias = Literal["patient", "record"]
SplitName: TypeAlias = Literal["train", "validation", "test"]
Inputs: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]
Labels: TypeAlias = NDArray[np.int64] | NDArray[np.uint8]

_ROUNDING: Final = 1e-4  # of a sum of probabilities
SPLITS: Final[tuple[SplitName, ...]] = get_args(SplitName)
CHANNELS: Final = (1, 3)  # grey, colour
MISSING: Final = ("", "?", "n/a", "na", "nan", "none", "null")  # what exports write for no value

ScalarT = TypeVar("ScalarT", bound=np.generic)


# -- Records --------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Records:
    """Records in a fixed order, each with its label and its patient, of two patients or more.

    Attributes:
        inputs: Images, shape (n, channels, height, width), uint8, one or three channels; volumes,
            the same with a depth after the channels; or a table, shape (n, features), float32,
            finite.
        labels: A class for each record, shape (n,), int64, from 0; or a label map for each image,
            shape (n, height, width), uint8: the class of every pixel; of volumes with their depth.
        patients: Shape (n,), text: the privacy unit that each record belongs to.
        sites: Shape (n,), text: the institution that holds each record; None where unknown.
        soft: Shape (n, classes), float32: the probability of each class, as several readers may
            give it, to be learnt in place of `labels`, which hold the most probable one; None
            where labels are learnt.

    Raises:
        DataError: One of the above does not hold.
    """

    inputs: Inputs
    labels: Labels
    patients: NDArray[np.str_]
    sites: NDArray[np.str_] | None = None
    soft: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        _check_inputs(self.inputs)
        _check_labels(self.labels, self.inputs)
        _check_names("patient", self.patients, count=len(self.inputs))
        if self.sites is not None:
            _check_names("site", self.sites, count=len(self.inputs))
            object.__setattr__(self, "sites", _read_only(self.sites))
        if self.patient_count < 2:
            raise DataError(
                f"found {len(self)} records of one patient; expected two patients or more; add "
                "patients, or check that the patient column tells them apart"
            )
        if self.soft is not None:
            _check_soft(self.soft, self.labels)
            object.__setattr__(self, "soft", _read_only(self.soft))
        object.__setattr__(self, "inputs", _read_only(self.inputs))
        object.__setattr__(self, "labels", _read_only(self.labels))
        object.__setattr__(self, "patients", _read_only(self.patients))

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return (
            f"Records({len(self)} records in {self.patient_count} privacy units, each "
            f"{self.inputs.dtype} {self.shape}{self._site_note()})"
        )

    def _site_note(self) -> str:
        return "" if self.sites is None else f", {len(np.unique(self.sites))} sites"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input: (channels, [depth,] height, width) or (features,)."""
        return self.inputs.shape[1:]

    @property
    def patient_count(self) -> int:
        """How many privacy units there are; repeating records does not change it."""
        return len(np.unique(self.patients))

    @property
    def has_label_maps(self) -> bool:
        """Whether every pixel has a class, rather than every record."""
        return self.labels.ndim > 1

    @property
    def targets(self) -> Labels | NDArray[np.float32]:
        """What a model is to answer: soft labels where there are any, else `labels`."""
        return self.labels if self.soft is None else self.soft

    def class_counts(self, classes: int) -> NDArray[np.int64]:
        """Returns how many records carry each label, or show it anywhere; shape (classes,).

        Raises:
            DataError: A label is not below `classes`.
        """
        _check_range(self.labels, classes)
        if not self.has_label_maps:
            return np.bincount(self.labels, minlength=classes).astype(np.int64)
        flat = self.labels.reshape(len(self), -1)
        return np.array([(flat == label).any(axis=1).sum() for label in range(classes)], np.int64)

    def by_patient(self) -> tuple[NDArray[np.intp], ...]:
        """Returns the row indices of each patient; patients sorted, rows ascending."""
        _, inverse = np.unique(self.patients, return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        return tuple(np.split(order, np.cumsum(np.bincount(inverse))[:-1]))

    def take(self, indices: NDArray[np.intp]) -> "Records":
        """Returns the records at `indices`, in that order.

        Raises:
            ValueError: An index occurs twice; a record cannot be multiplied.
            DataError: What is left is empty or of one patient.
        """
        if len(np.unique(indices)) != len(indices):
            raise ValueError("indices repeat; each record can be taken once")
        return Records(
            inputs=self.inputs[indices],
            labels=self.labels[indices],
            patients=self.patients[indices],
            sites=None if self.sites is None else self.sites[indices],
            soft=None if self.soft is None else self.soft[indices],
        )


def _check_inputs(inputs: Inputs) -> None:
    image = inputs.dtype == np.uint8 and inputs.ndim in (4, 5)
    if not image and not (inputs.dtype == np.float32 and inputs.ndim == 2):
        raise DataError(
            f"found inputs of {inputs.dtype} {inputs.shape}; expected uint8 images (records, "
            "channels, [depth,] height, width) or a float32 table (records, features); convert them"
        )
    if inputs.size == 0:
        raise DataError(f"found no record in inputs {inputs.shape}; expected some; check the path")
    if image and inputs.shape[1] not in CHANNELS:
        raise DataError(
            f"found images of {inputs.shape[1]} channels; expected 1 or 3; convert them, or put "
            "the channels before height and width"
        )
    if not image and not np.isfinite(inputs).all():
        rows = int((~np.isfinite(inputs)).any(axis=1).sum())
        raise DataError(
            f"found {rows} rows with a missing or infinite value; expected finite numbers; "
            "leave those rows out or fill them by a public rule"
        )


def _check_labels(labels: Labels, inputs: Inputs) -> None:
    count = len(inputs)
    if labels.ndim > 1:
        _check_maps(labels, inputs)
        return
    if labels.dtype != np.int64 or labels.shape != (count,):
        raise DataError(
            f"found labels of {labels.dtype} {labels.shape} for {count} records; expected int64 "
            f"({count},); give one class number to each record"
        )
    if labels.min() < 0:
        raise DataError(
            f"found label {labels.min()}; expected 0 or more; number the classes from 0"
        )


def _check_maps(maps: Labels, inputs: Inputs) -> None:
    expected = (len(inputs), *inputs.shape[2:])
    if inputs.ndim < 4 or maps.dtype != np.uint8 or maps.shape != expected:
        raise DataError(
            f"found label maps of {maps.dtype} {maps.shape} for inputs {inputs.shape}; expected "
            f"images, and uint8 {expected}; give one class number to each pixel"
        )


def _check_soft(soft: NDArray[np.float32], labels: Labels) -> None:
    fits = soft.dtype == np.float32 and soft.ndim == 2 and len(soft) == len(labels)
    if not fits or labels.ndim != 1:
        raise DataError(
            f"found soft labels of {soft.dtype} {soft.shape} for labels {labels.shape}; expected "
            "float32 (records, classes) and a class a record; give each record one row"
        )
    wrong_sums = (abs(soft.sum(axis=1) - 1) > _ROUNDING).any()
    if not np.isfinite(soft).all() or soft.min() < 0 or wrong_sums:
        raise DataError(
            "found soft labels that are not probabilities; expected numbers from 0 to 1 that sum "
            "to 1 in each row; divide each row by its sum"
        )
    if (
        labels.max() >= soft.shape[1]
        or (soft[np.arange(len(soft)), labels] < soft.max(axis=1)).any()
    ):
        raise DataError(
            "found labels that are not the most probable class of their soft label; expected them "
            "to agree; number both alike"
        )


def _check_names(what: str, names: NDArray[np.str_], *, count: int) -> None:
    if names.dtype.kind != "U" or names.shape != (count,):
        raise DataError(
            f"found {what} column of {names.dtype} {names.shape} for {count} records; expected "
            f"text ({count},); name the {what} of each record"
        )
    missing = int(np.isin(np.strings.lower(np.strings.strip(names)), MISSING).sum())
    if missing:
        raise DataError(
            f"found {missing} records without a {what}; expected a {what} for every record; "
            f"add the identifiers or leave these records out (a {what} is never guessed)"
        )
    if (np.strings.strip(names) != names).any():
        raise DataError(
            f"found {what} identifiers with space around them; expected none, because 'a' and "
            f"'a ' would be two; strip the {what} column"
        )


def _check_range(labels: Labels, classes: int) -> None:
    if labels.max() >= classes:
        raise DataError(
            f"found label {labels.max()}; expected 0 to {classes - 1} for {classes} classes; "
            "correct the labels or name every class"
        )


def _read_only(array: NDArray[ScalarT]) -> NDArray[ScalarT]:
    """Returns `array` if nobody can write to it, else a copy that nobody can write to."""
    if not array.flags.writeable:
        return array
    copy = array.copy()
    copy.setflags(write=False)
    return copy


# -- Splits ---------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Splits:
    """A dataset in three parts that share no patient.

    Attributes:
        train: What a model learns from; the only part that a privacy budget covers.
        validation: What chooses between models.
        test: What is looked at once.
        classes: The name of each class; label 0 is the first.
        unit: What `patients` names: "patient", or "record" where each image stands for itself.
        origin: One line for people: what this is, and what was moved or left out.

    Raises:
        DataError: A patient is in two parts, the parts differ in shape, or a label has no class.
    """

    train: Records
    validation: Records
    test: Records
    classes: tuple[str, ...]
    unit: Unit
    origin: str

    def __post_init__(self) -> None:
        if self.unit not in get_args(Unit):
            raise DataError(f"found unit {self.unit!r}; expected 'patient' or 'record'; name one")
        if not self.origin.strip() or "\n" in self.origin:
            raise DataError("origin must be one line of text; say in it where the data come from")
        _check_classes(self.classes)
        for first, second in combinations(SPLITS, 2):
            self._check_pair(first, second)
        for name in SPLITS:
            _check_range(self.part(name).labels, len(self.classes))
            soft = self.part(name).soft
            if soft is not None and soft.shape[1] != len(self.classes):
                raise DataError(
                    f"found soft labels of {soft.shape[1]} classes; expected {len(self.classes)}; "
                    "name every class, and give each a column"
                )

    def part(self, name: SplitName) -> Records:
        """Returns the records of one split."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    def _check_pair(self, first: SplitName, second: SplitName) -> None:
        one, two = self.part(first), self.part(second)
        if one.inputs.dtype != two.inputs.dtype or one.shape != two.shape:
            raise DataError(
                f"found {first} records {one.inputs.dtype} {one.shape} and {second} records "
                f"{two.inputs.dtype} {two.shape}; expected one shape; prepare all splits alike"
            )
        if one.has_label_maps != two.has_label_maps:
            raise DataError(
                f"found label maps in only one of {first} and {second}; expected them in every "
                "split or in none; prepare all splits alike"
            )
        shared = len(np.intersect1d(one.patients, two.patients))
        if shared:
            raise DataError(
                f"found {shared} {self.unit}s in both {first} and {second}; expected none; move "
                f"all images of a {self.unit} into one split"
            )


def _check_classes(classes: tuple[str, ...]) -> None:
    if len(classes) < 2 or len(set(classes)) != len(classes) or not all(map(str.strip, classes)):
        raise DataError(
            f"found classes {classes}; expected two or more different names; name each class once"
        )

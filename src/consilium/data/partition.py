# SPDX-License-Identifier: Apache-2.0
"""The division of one dataset among sites, for experiments: whole patients, never single records.

    kind             what a site gets
    IidEqual         patients at random, equally many at each site
    IidUnequal       patients at random, shares drawn from a Dirichlet distribution
    LabelShards      a few runs of the patients in order of their label (McMahan et al. 2017)
    LabelsPerSite    patients of a few labels (0-3, 4-6, 7-9 for ten labels at three sites)
    Dirichlet        of each label, shares drawn from a Dirichlet distribution (Hsu et al. 2019)
    ByColumn         the records that name it: the real institutions

A patient's label is the most frequent one of the patient's records, the smallest of equals.

Guarantees: every record is at exactly one site, no patient is at two, every site holds two
patients or more, and the same arguments give the same division. Randomness here is seeded and
public: it imitates how patients came to hospitals and protects nobody.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, assert_never, final

import numpy as np
from numpy.typing import NDArray

from consilium.data.records import Records
from consilium.errors import ConfigError, DataError

MIN_PATIENTS: Final = 2  # at each site
_DRAWS: Final = 100  # tries of a random division before it is refused

Groups: TypeAlias = list[NDArray[np.intp]]  # of each site, positions in `records.by_patient()`


# -- Kinds ----------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class IidEqual:
    """Patients at random; the numbers at two sites differ by one at most."""


@final
@dataclass(frozen=True, slots=True)
class IidUnequal:
    """Patients at random; each site has at least `smallest_share` of them.

    Attributes:
        smallest_share: Of all patients; sites * smallest_share is at most 1.
        concentration: Of the Dirichlet distribution that divides the rest; large is equal.
    """

    smallest_share: float = 0.05
    concentration: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.smallest_share < 1:
            raise ConfigError(f"smallest_share={self.smallest_share} must be >= 0 and < 1")
        _check_positive("concentration", self.concentration)


@final
@dataclass(frozen=True, slots=True)
class LabelShards:
    """Patients in order of label, cut into equal shards; each site has `shards_per_site`."""

    shards_per_site: int = 2

    def __post_init__(self) -> None:
        _check_positive("shards_per_site", self.shards_per_site)


@final
@dataclass(frozen=True, slots=True)
class LabelsPerSite:
    """Patients of `labels_per_site` labels at most, and of one less where they do not divide.

    With the smallest number that covers all labels, no label is at two sites (unless there are
    more sites than labels); each one above it adds the label that follows.
    """

    labels_per_site: int

    def __post_init__(self) -> None:
        _check_positive("labels_per_site", self.labels_per_site)


@final
@dataclass(frozen=True, slots=True)
class Dirichlet:
    """Patients of each label in shares drawn from Dirichlet(alpha, ..., alpha)."""

    alpha: float

    def __post_init__(self) -> None:
        _check_positive("alpha", self.alpha)


@final
@dataclass(frozen=True, slots=True)
class ByColumn:
    """Patients where they are: `Records.sites`, sites in order of their names."""


Drawn: TypeAlias = IidEqual | IidUnequal | LabelShards | LabelsPerSite | Dirichlet
Partition: TypeAlias = Drawn | ByColumn


def _check_positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ConfigError(f"{name}={value} must be a number > 0")


# -- The division ---------------------------------------------------------------------


def partition(
    records: Records, kind: Partition, *, sites: int, seed: int, classes: int
) -> tuple[Records, ...]:
    """Returns the records of each site, in their old order, with `sites` naming the site.

    Args:
        records: What is divided.
        kind: How.
        sites: How many sites.
        seed: Of this division; used by the random kinds.
        classes: How many labels there are.

    Raises:
        DataError: A site would have fewer than two patients, or the kind does not fit the
            records; the message names what to change.
    """
    if sites < 1:
        raise DataError(f"found sites={sites}; expected 1 or more; raise it")
    patients = records.by_patient()
    if len(patients) < MIN_PATIENTS * sites:
        raise DataError(
            f"found {len(patients)} patients for {sites} sites; expected {MIN_PATIENTS} or more "
            "at each; reduce sites"
        )
    if isinstance(kind, ByColumn):
        return _by_column(records, sites)
    labels = _labels_to_divide_by(records, kind, classes)
    groups = _divided(labels, kind, sites=sites, rng=np.random.default_rng(seed))
    return tuple(
        _at_site(records, np.concatenate([patients[i] for i in group]), f"site-{number}")
        for number, group in enumerate(groups, start=1)
    )


def _labels_to_divide_by(records: Records, kind: Drawn, classes: int) -> NDArray[np.int64]:
    if not records.has_label_maps:
        return patient_labels(records, classes)
    if not isinstance(kind, IidEqual | IidUnequal):
        raise DataError(
            f"found label maps for a division by label ({type(kind).__name__}); expected one class "
            "a record; divide by IidEqual, IidUnequal or ByColumn"
        )
    return np.zeros(records.patient_count, np.int64)


def patient_labels(records: Records, classes: int) -> NDArray[np.int64]:
    """Returns the label of each patient of `records.by_patient()`: the most frequent, else least.

    Raises:
        DataError: A label is not below `classes`.
    """
    records.class_counts(classes)
    counts = [np.bincount(records.labels[rows]) for rows in records.by_patient()]
    return np.array([np.argmax(count) for count in counts], np.int64)


def _divided(
    labels: NDArray[np.int64], kind: Drawn, *, sites: int, rng: np.random.Generator
) -> Groups:
    for _ in range(_DRAWS):
        groups = _drawn(labels, kind, sites=sites, rng=rng)
        if min(map(len, groups)) >= MIN_PATIENTS:
            return groups
    raise DataError(
        f"found a site with fewer than {MIN_PATIENTS} patients in each of {_DRAWS} draws of "
        f"{kind}; expected {MIN_PATIENTS} or more at each of {sites} sites; {_remedy(kind)} or "
        "reduce sites"
    )


def _drawn(
    labels: NDArray[np.int64], kind: Drawn, *, sites: int, rng: np.random.Generator
) -> Groups:
    order = rng.permutation(len(labels))
    match kind:
        case IidEqual():
            return np.array_split(order, sites)
        case IidUnequal():
            return _cut(order, _unequal_shares(kind, sites, rng))
        case LabelShards():
            return _shards(order[np.argsort(labels[order], kind="stable")], kind, sites, rng)
        case LabelsPerSite():
            return _few_labels(order, labels, kind, sites)
        case Dirichlet():
            alphas = np.full(sites, kind.alpha)
            parts = [_cut(rows, rng.dirichlet(alphas)) for rows in _by_label(order, labels)]
            return [np.concatenate(mine) for mine in zip(*parts, strict=True)]
        case _:
            assert_never(kind)


def _remedy(kind: Drawn) -> str:
    match kind:
        case IidEqual():
            return "add patients"
        case IidUnequal():
            return "raise smallest_share"
        case LabelShards():
            return "reduce shards_per_site"
        case LabelsPerSite():
            return "raise labels_per_site"
        case Dirichlet():
            return "raise alpha"
        case _:
            assert_never(kind)


def _cut(rows: NDArray[np.intp], shares: NDArray[np.float64]) -> Groups:
    """Returns `rows` in consecutive pieces of these shares, to the nearest row."""
    ends = np.rint(np.cumsum(shares)[:-1] * len(rows)).astype(np.intp)
    return np.split(rows, ends)


def _by_label(order: NDArray[np.intp], labels: NDArray[np.int64]) -> Groups:
    return [order[labels[order] == label] for label in np.unique(labels)]


def _unequal_shares(kind: IidUnequal, sites: int, rng: np.random.Generator) -> NDArray[np.float64]:
    spread = 1 - sites * kind.smallest_share
    if spread < 0:
        raise DataError(
            f"found smallest_share={kind.smallest_share} for {sites} sites; expected at most "
            f"1/{sites}; reduce smallest_share or sites"
        )
    drawn = rng.dirichlet(np.full(sites, kind.concentration))
    return np.asarray(kind.smallest_share + spread * drawn, np.float64)


def _shards(
    by_label: NDArray[np.intp], kind: LabelShards, sites: int, rng: np.random.Generator
) -> Groups:
    shards = np.array_split(by_label, sites * kind.shards_per_site)
    dealt = rng.permutation(len(shards)).reshape(sites, kind.shards_per_site)
    return [np.concatenate([shards[i] for i in hand]) for hand in dealt]


def _few_labels(
    order: NDArray[np.intp], labels: NDArray[np.int64], kind: LabelsPerSite, sites: int
) -> Groups:
    """Deals the patients of each label, in equal parts, to the sites that hold the label."""
    held = _held_labels(np.unique(labels), kind, sites)
    hands: list[list[NDArray[np.intp]]] = [[] for _ in range(sites)]
    for label, rows in zip(np.unique(labels), _by_label(order, labels), strict=True):
        holders = [site for site in range(sites) if label in held[site]]
        for site, part in zip(holders, np.array_split(rows, len(holders)), strict=True):
            hands[site].append(part)
    return [np.concatenate(hand) for hand in hands]


def _held_labels(
    present: NDArray[np.int64], kind: LabelsPerSite, sites: int
) -> list[NDArray[np.int64]]:
    """Returns the labels of each site: a run of its own, and what follows up to the number."""
    fewest = math.ceil(len(present) / sites)
    if not fewest <= kind.labels_per_site <= len(present):
        raise DataError(
            f"found labels_per_site={kind.labels_per_site} for {len(present)} labels at {sites} "
            f"sites; expected {fewest} to {len(present)}; change labels_per_site"
        )
    if sites <= len(present):
        own = np.array_split(np.arange(len(present)), sites)
    else:
        own = [np.array([site % len(present)]) for site in range(sites)]
    extra = kind.labels_per_site - fewest
    runs = [np.arange(run[0], run[-1] + 1 + extra) % len(present) for run in own]
    return [present[np.unique(run)] for run in runs]


# -- Real institutions ----------------------------------------------------------------


def _by_column(records: Records, sites: int) -> tuple[Records, ...]:
    if records.sites is None:
        raise DataError(
            "found no site column in these records; expected one for ByColumn; choose another "
            "kind of partition"
        )
    names = np.unique(records.sites)
    if len(names) != sites:
        raise DataError(
            f"found {len(names)} sites in the column; expected sites={sites}; set sites to "
            f"{len(names)}"
        )
    pairs = np.unique(np.stack([records.patients, records.sites]), axis=1)
    split = pairs.shape[1] - records.patient_count
    if split:
        raise DataError(
            f"found {split} patients with records at more than one site; expected none; give all "
            "records of a patient to one site"
        )
    return tuple(
        _at_site(records, np.flatnonzero(records.sites == name), str(name)) for name in names
    )


def _at_site(records: Records, rows: NDArray[np.intp], name: str) -> Records:
    try:
        return replace(records.take(np.sort(rows)), sites=np.full(len(rows), name))
    except DataError as error:
        raise DataError(f"{name}: {error}") from None


# -- What each site got ---------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSummary:
    """One line of the table: what one site of an experiment holds.

    At a real hospital these are private counts; releasing them costs budget.

    Attributes:
        name: Of the site.
        patients: How many.
        records: How many.
        labels: How many records of each label.
    """

    name: str
    patients: int
    records: int
    labels: tuple[int, ...]


def describe(parts: Sequence[Records], classes: int) -> tuple[SiteSummary, ...]:
    """Returns a line for each of `parts`, as `partition` made them.

    Raises:
        DataError: A label is not below `classes`.
    """
    return tuple(
        SiteSummary(
            name=name,
            patients=part.patient_count,
            records=len(part),
            labels=tuple(part.class_counts(classes).tolist()),
        )
        for name, part in zip(site_names(parts), parts, strict=True)
    )


def site_names(parts: Sequence[Records]) -> tuple[str, ...]:
    """Returns the name of each site: of its institution, else "site-1", "site-2", ..."""
    return tuple(
        f"site-{number}" if part.sites is None else str(part.sites[0])
        for number, part in enumerate(parts, start=1)
    )

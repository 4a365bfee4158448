# SPDX-License-Identifier: Apache-2.0
"""Tests of the division among sites: nothing lost, nobody split, shapes as asked."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.data.partition import (
    ByColumn,
    Dirichlet,
    IidEqual,
    IidUnequal,
    LabelShards,
    LabelsPerSite,
    Partition,
    describe,
    partition,
    patient_labels,
    site_names,
)
from consilium.data.records import Records
from consilium.errors import ConfigError, DataError

KINDS: list[Partition] = [
    IidEqual(),
    IidUnequal(smallest_share=0.1),
    LabelShards(2),
    LabelsPerSite(4),
    Dirichlet(5.0),
]


def records(patients: int, *, classes: int = 10, repeats: int = 2) -> Records:
    """Patients p0, p1, ... of label i % classes with `repeats` records each, interleaved."""
    rows = np.tile(np.arange(patients), repeats)
    return Records(
        inputs=np.arange(len(rows), dtype=np.float32)[:, None],
        labels=(rows % classes).astype(np.int64),
        patients=np.array([f"p{row}" for row in rows]),
    )


# -- Properties -----------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.integers(3, 5),
    st.integers(60, 120),
    st.integers(0, 2**32),
    st.data(),
)
def test_every_record_is_at_one_site_and_every_patient_too(
    kind: Partition, sites: int, patients: int, seed: int, data: st.DataObject
) -> None:
    some = records(patients, repeats=data.draw(st.integers(1, 3)))

    parts = partition(some, kind, sites=sites, seed=seed, classes=10)

    assert sorted(np.concatenate([part.inputs[:, 0] for part in parts])) == list(some.inputs[:, 0])
    held = Counter(name for part in parts for name in np.unique(part.patients).tolist())
    assert set(held.values()) == {1}
    assert len(parts) == sites
    assert min(part.patient_count for part in parts) >= 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_division(kind: Partition) -> None:
    first = partition(records(90), kind, sites=3, seed=7, classes=10)
    second = partition(records(90), kind, sites=3, seed=7, classes=10)

    assert [part.patients.tolist() for part in first] == [part.patients.tolist() for part in second]


@pytest.mark.parametrize("kind", [*KINDS[:3], LabelsPerSite(5), Dirichlet(5.0)])
def test_another_seed_gives_another_division(kind: Partition) -> None:
    first = partition(records(90), kind, sites=3, seed=7, classes=10)
    second = partition(records(90), kind, sites=3, seed=8, classes=10)

    assert [part.patients.tolist() for part in first] != [part.patients.tolist() for part in second]


@pytest.mark.parametrize("kind", KINDS)
def test_labels_and_inputs_stay_with_their_patient(kind: Partition) -> None:
    some = records(90)

    for part in partition(some, kind, sites=3, seed=1, classes=10):
        rows = part.inputs[:, 0].astype(int)
        assert part.labels.tolist() == some.labels[rows].tolist()
        assert part.patients.tolist() == some.patients[rows].tolist()


# -- Each kind ------------------------------------------------------------------------


@given(st.integers(10, 60), st.integers(1, 5))
@settings(deadline=None)
def test_equal_parts_differ_by_one_patient_at_most(patients: int, sites: int) -> None:
    parts = partition(records(patients), IidEqual(), sites=sites, seed=0, classes=10)

    sizes = [part.patient_count for part in parts]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_unequal_parts_respect_the_smallest_share(seed: int) -> None:
    parts = partition(records(1000), IidUnequal(0.1, 0.5), sites=4, seed=seed, classes=10)

    sizes = [part.patient_count for part in parts]
    assert min(sizes) >= 99
    assert max(sizes) > 300


def test_shards_hold_few_labels() -> None:
    parts = partition(records(1000), LabelShards(2), sites=5, seed=3, classes=10)

    assert [line.patients for line in describe(parts, 10)] == [200] * 5
    assert [np.count_nonzero(line.labels) for line in describe(parts, 10)] == [2] * 5


def test_four_labels_at_each_of_three_sites_are_0_to_3_4_to_6_and_7_to_9() -> None:
    parts = partition(records(100), LabelsPerSite(4), sites=3, seed=0, classes=10)

    assert [np.unique(part.labels).tolist() for part in parts] == [
        [0, 1, 2, 3],
        [4, 5, 6],
        [7, 8, 9],
    ]


def test_one_more_label_is_the_one_that_follows() -> None:
    parts = partition(records(100), LabelsPerSite(5), sites=3, seed=0, classes=10)

    assert [np.unique(part.labels).tolist() for part in parts] == [
        [0, 1, 2, 3, 4],
        [4, 5, 6, 7],
        [0, 7, 8, 9],
    ]


def test_more_sites_than_labels_share_them_in_turn() -> None:
    parts = partition(records(60, classes=2), LabelsPerSite(1), sites=5, seed=0, classes=2)

    assert [np.unique(part.labels).tolist() for part in parts] == [[0], [1], [0], [1], [0]]


def test_a_large_alpha_is_nearly_equal_and_a_small_one_is_not() -> None:
    even = partition(records(1000), Dirichlet(1e5), sites=4, seed=0, classes=10)
    skewed = partition(records(1000), Dirichlet(0.2), sites=4, seed=0, classes=10)

    assert np.std([line.labels for line in describe(even, 10)], axis=0).max() < 2
    assert np.std([line.labels for line in describe(skewed, 10)], axis=0).max() > 50


def test_a_column_of_sites_is_followed() -> None:
    some = replace(records(4, repeats=1), sites=np.array(["va", "bern", "va", "bern"]))

    parts = partition(some, ByColumn(), sites=2, seed=0, classes=10)

    assert site_names(parts) == ("bern", "va")
    assert [part.patients.tolist() for part in parts] == [["p1", "p3"], ["p0", "p2"]]


# -- The label of a patient -----------------------------------------------------------


def test_the_label_of_a_patient_is_the_most_frequent_then_the_smallest() -> None:
    some = Records(
        inputs=np.zeros((6, 1), np.float32),
        labels=np.array([2, 2, 0, 3, 1, 1], np.int64),
        patients=np.array(["a", "a", "a", "b", "b", "c"]),
    )

    assert patient_labels(some, 4).tolist() == [2, 1, 1]


def test_a_patient_of_two_labels_stays_whole_at_one_site() -> None:
    mixed = replace(records(40, classes=2, repeats=3), labels=np.arange(120, dtype=np.int64) % 2)

    parts = partition(mixed, LabelsPerSite(1), sites=2, seed=0, classes=2)

    assert sum(part.patient_count for part in parts) == 40
    assert all((np.unique(part.patients, return_counts=True)[1] == 3).all() for part in parts)


# -- The table ------------------------------------------------------------------------


def test_sites_are_named_and_counted() -> None:
    parts = partition(records(20, classes=2), LabelsPerSite(1), sites=2, seed=0, classes=2)

    first, second = describe(parts, 2)
    assert (first.name, first.patients, first.records, first.labels) == ("site-1", 10, 20, (20, 0))
    assert (second.name, second.labels) == ("site-2", (0, 20))


# -- Refusals -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "sites", "reason"),
    [
        (IidEqual(), 0, "found sites=0"),
        (IidEqual(), 11, "20 patients for 11 sites"),
        (IidUnequal(0.3), 4, "reduce smallest_share or sites"),
        (IidUnequal(0.0, 1e-6), 4, "raise smallest_share"),
        (LabelsPerSite(3), 3, "expected 4 to 10; change labels_per_site"),
        (LabelsPerSite(11), 3, "expected 4 to 10; change labels_per_site"),
        (Dirichlet(1e-6), 9, "raise alpha or reduce sites"),
        (ByColumn(), 2, "no site column"),
    ],
)
def test_a_division_that_cannot_be_made_says_what_to_change(
    kind: Partition, sites: int, reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        partition(records(20), kind, sites=sites, seed=0, classes=10)


def test_a_column_of_another_number_of_sites_is_refused() -> None:
    some = replace(records(6, repeats=1), sites=np.array(["x", "y", "z"] * 2))

    with pytest.raises(DataError, match="found 3 sites in the column; expected sites=2"):
        partition(some, ByColumn(), sites=2, seed=0, classes=10)


def test_a_patient_at_two_real_sites_is_refused() -> None:
    some = replace(records(4, repeats=2), sites=np.array(["x"] * 4 + ["y"] * 4))

    with pytest.raises(DataError, match="4 patients with records at more than one site"):
        partition(some, ByColumn(), sites=2, seed=0, classes=10)


def test_a_real_site_of_one_patient_is_refused_by_name() -> None:
    some = replace(records(5, repeats=1), sites=np.array(["bern", "va", "va", "va", "va"]))

    with pytest.raises(DataError, match="bern: found 1 records of one patient"):
        partition(some, ByColumn(), sites=2, seed=0, classes=10)


def test_a_label_without_a_class_is_refused() -> None:
    with pytest.raises(DataError, match="found label 9"):
        partition(records(20), IidEqual(), sites=2, seed=0, classes=9)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_an_alpha_that_is_no_number_above_zero_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match="alpha"):
        Dirichlet(value)


@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
def test_a_smallest_share_outside_0_to_1_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match="smallest_share"):
        IidUnequal(value)


# -- Label maps -----------------------------------------------------------------------


def with_maps(patients: int) -> Records:
    some = records(patients)
    images = np.zeros((len(some), 1, 2, 2), np.uint8)
    return replace(some, inputs=images, labels=np.zeros((len(some), 2, 2), np.uint8))


@pytest.mark.parametrize("kind", [IidEqual(), IidUnequal(0.1)])
def test_label_maps_are_divided_by_patient(kind: Partition) -> None:
    parts = partition(with_maps(40), kind, sites=4, seed=0, classes=2)

    assert sum(part.patient_count for part in parts) == 40
    assert all(part.has_label_maps for part in parts)


@pytest.mark.parametrize("kind", [LabelShards(), LabelsPerSite(1), Dirichlet(0.5)])
def test_label_maps_cannot_be_divided_by_label(kind: Partition) -> None:
    with pytest.raises(DataError, match="label maps for a division by label"):
        partition(with_maps(40), kind, sites=4, seed=0, classes=2)

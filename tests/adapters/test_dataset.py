# SPDX-License-Identifier: Apache-2.0
"""From the words of a project to records at sites, and what is refused on the way."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.adapters.conftest import made_up_arrays, make_project

from consilium.adapters.dataset import (
    Dataset,
    make_partition,
    make_ready,
    public_facts,
    read_dataset,
)
from consilium.adapters.machine import use_threads
from consilium.data.partition import (
    ByColumn,
    Dirichlet,
    IidEqual,
    IidUnequal,
    LabelShards,
    LabelsPerSite,
    Partition,
)
from consilium.errors import ConfigError, ConsiliumError, DataError
from consilium.federation.project import Sites

Arrays = dict[str, NDArray[np.generic]]


# -- Partitions -----------------------------------------------------------------------

KINDS: list[tuple[Sites, Partition]] = [
    (Sites(partition="iid-equal"), IidEqual()),
    (Sites(partition="iid-unequal", count=4), IidUnequal(0.075)),
    (Sites(partition="iid-unequal", smallest_share=0.0), IidUnequal(0.0)),
    (Sites(partition="label-shards"), LabelShards(2)),
    (Sites(partition="label-shards", shards_per_site=3), LabelShards(3)),
    (Sites(partition="labels-per-site"), LabelsPerSite(1)),
    (Sites(partition="labels-per-site", labels_per_site=4), LabelsPerSite(4)),
    (Sites(partition="dirichlet"), Dirichlet(0.5)),
    (Sites(partition="dirichlet", alpha=2.0), Dirichlet(2.0)),
    (Sites(partition="column"), ByColumn()),
]


@pytest.mark.parametrize(("settings", "kind"), KINDS)
def test_each_word_names_a_division(settings: Sites, kind: Partition) -> None:
    assert make_partition(settings) == kind


IMPOSSIBLE = [
    Sites(partition="label-shards", shards_per_site=0),
    Sites(partition="labels-per-site", labels_per_site=0),
    Sites(partition="dirichlet", alpha=0.0),
]


@pytest.mark.parametrize("settings", IMPOSSIBLE)
def test_zero_is_not_taken_for_the_default(settings: Sites) -> None:
    with pytest.raises(ConfigError, match="=0"):
        make_partition(settings)


# -- Sites ----------------------------------------------------------------------------


def test_the_sites_share_all_training_records(digits: Dataset) -> None:
    ready = make_ready(make_project(), digits, federated=True, seed=0)

    assert ready.names == ("site-1", "site-2", "site-3", "site-4")
    assert sum(len(part) for part in ready.parts) == len(digits.splits.train)
    assert public_facts(ready).records == len(digits.splits.train)


def test_every_view_of_a_patients_records_is_the_patients(digits: Dataset) -> None:
    ready = make_ready(make_project({"training.views": "3"}), digits, federated=True, seed=0)

    trainee, one = ready.trainee(1), replace(ready, views=1).trainee(1)

    count = len(one.labels)
    assert public_facts(ready).records == 3 * len(digits.splits.train)
    assert torch.equal(trainee.inputs[:count], one.inputs)
    assert torch.equal(trainee.labels.reshape(3, count), one.labels.expand(3, count))
    assert [rows.tolist() for rows in trainee.rows] == [
        [k * count + row for k in range(3) for row in rows] for rows in one.rows
    ]


def test_one_party_holds_everything_without_federation(digits: Dataset) -> None:
    ready = make_ready(make_project(), digits, federated=False, seed=0)

    assert ready.names == ("all data",)
    assert ready.parts == (digits.splits.train,)


def test_the_same_seed_gives_the_same_parts_and_weights(digits: Dataset) -> None:
    one, two = (make_ready(make_project(), digits, federated=True, seed=3) for _ in range(2))

    assert all((a.patients == b.patients).all() for a, b in zip(one.parts, two.parts, strict=True))
    torch.testing.assert_close(one.model.state_dict(), two.model.state_dict(), rtol=0, atol=0)


def test_each_site_trains_a_model_of_its_own(digits: Dataset) -> None:
    ready = make_ready(make_project({"model.name": "wavelet"}), digits, federated=True, seed=0)

    first, second = ready.trainee(0), ready.trainee(1)
    torch.nn.init.ones_(next(first.model.parameters()))

    assert next(second.model.parameters()).sum() == 0
    assert first.inputs.shape[1:] != (1, 8, 8)  # the fixed layers were applied once


# -- Class names ----------------------------------------------------------------------


def test_a_project_may_name_the_classes() -> None:
    names = [f"digit {k}" for k in range(10)]
    project = make_project({"data.classes": str(names)})

    assert read_dataset(project.data, None).splits.classes == tuple(names)


def test_a_wrong_number_of_class_names_is_refused() -> None:
    project = make_project({"data.classes": '["even", "odd"]'})

    with pytest.raises(DataError, match=r"names 2 classes; digits has 10: name each of 0, 1"):
        read_dataset(project.data, None)


# -- Missing classes ------------------------------------------------------------------


def test_a_class_missing_at_a_site_is_refused(digits: Dataset) -> None:
    project = make_project({"sites.count": "100"})

    with pytest.raises(DataError, match=r"has no record of class .*missing_classes = \"allow\""):
        make_ready(project, digits, federated=True, seed=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"sites.count": "100", "sites.missing_classes": "allow"},
        {"sites.partition": "labels-per-site", "sites.labels_per_site": "3"},
        {"sites.partition": "dirichlet", "sites.alpha": "0.2"},
    ],
)
def test_a_missing_class_is_accepted_where_it_was_agreed(
    digits: Dataset, changes: Mapping[str, str]
) -> None:
    ready = make_ready(make_project(changes), digits, federated=True, seed=0)

    assert any(0 in part.class_counts(10) for part in ready.parts)


# -- Refusals -------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["squeezenet", "nf-resnet", "no-such-model"])
def test_a_model_that_does_not_fit_the_images_is_refused(digits: Dataset, model: str) -> None:
    with pytest.raises(ConfigError, match=f"^model '{model}' .*expected"):
        make_ready(make_project({"model.name": model}), digits, federated=True, seed=0)


def without_classes(arrays: Arrays) -> Arrays:
    return {key: array for key, array in arrays.items() if key != "classes"}


BAD: dict[str, Callable[[Arrays], Arrays]] = {
    "images of another size": lambda x: {**x, "val_images": np.zeros((12, 9, 8), np.uint8)},
    "a label out of range": lambda x: {**x, "train_labels": np.arange(40)},
    "a gap in the labels": lambda x: {**without_classes(x), "train_labels": np.arange(40) % 2 * 2},
    "a negative label": lambda x: {**x, "test_labels": np.full(12, -1)},
    "one patient": lambda x: {**x, "train_groups": np.full(40, "secret-name")},
    "a patient in two splits": lambda x: {**x, "val_groups": np.full(12, "train-3")},
    "too few labels": lambda x: {**x, "train_labels": np.zeros(39, np.int64)},
    "no test images": lambda x: {k: v for k, v in x.items() if k != "test_images"},
    "no image": lambda x: {**x, "train_images": np.zeros((0, 8, 8), np.uint8)},
    "real numbers": lambda x: {**x, "train_images": np.zeros((40, 8, 8), np.float64)},
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "bad.npz", allow_pickle=False, **BAD[name](made_up_arrays()))
    project = make_project({"data.source": "bad.npz", "data.privacy_unit": "patient"})

    with pytest.raises(ConsiliumError, match=r"^source bad\.npz: .*expected [^\n]*$") as refusal:
        read_dataset(project.data, tmp_path)

    assert "secret-name" not in str(refusal.value)


@pytest.mark.parametrize("kept", [0, 1, 200, -40])
def test_a_damaged_archive_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, allow_pickle=False, **made_up_arrays())
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(DataError, match=r"cannot be read .*expected an \.npz archive"):
        read_dataset(make_project({"data.source": "bad.npz"}).data, tmp_path)


def test_at_least_one_thread_computes() -> None:
    use_threads(0)

    assert torch.get_num_threads() == 1

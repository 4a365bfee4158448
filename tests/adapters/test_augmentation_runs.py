# SPDX-License-Identifier: Apache-2.0
"""Augmentation in runs: fresh in every round, train only, and no patient moves a sum by more."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tests.adapters.conftest import make_project, same_seeds

from consilium.adapters.dataset import Dataset, Ready, make_ready
from consilium.adapters.site_team import SiteTeam
from consilium.adapters.site_team_line import Blueprint
from consilium.adapters.stage import MODEL, NobodyWatches, Run
from consilium.adapters.training import train_arm
from consilium.data.records import Records
from consilium.errors import ConfigError, DataError
from consilium.federation.arms import ARMS
from consilium.federation.project import parse_project
from consilium.learning.parameters import flatten

CHANGES = {
    "training.views": "3",
    "training.augmentation": '[{ name = "affine" }, { name = "noise", probability = 1.0 }]',
    "training.rounds": "2",
}
CLIP = 0.5


def ready(dataset: Dataset, changes: dict[str, str] | None = None) -> Ready:
    project = make_project(CHANGES | (changes or {}))
    return make_ready(project, dataset, federated=True, seed=0)


# -- Fresh views ----------------------------------------------------------------------


def test_views_differ_between_rounds_and_between_each_other(digits: Dataset) -> None:
    trainee = ready(digits).trainee(0)

    first, labels = trainee.examples(np.arange(2), b"round 1")
    second, _ = trainee.examples(np.arange(2), b"round 2")
    again, _ = trainee.examples(np.arange(2), b"round 1")

    assert first.shape == (6, 1, 8, 8)
    assert labels.tolist() == trainee.labels[:2].tolist() * 3
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first[:2], first[2:4])


def test_another_seed_gives_other_views(digits: Dataset) -> None:
    trainee = ready(digits).trainee(0)

    one, two = (replace(trainee, seed=seed).examples(np.arange(2), b"")[0] for seed in (0, 1))

    assert not torch.equal(one, two)


def test_without_augmentation_records_are_what_they_were(digits: Dataset) -> None:
    trainee = ready(digits, {"training.augmentation": "[]"}).trainee(0)

    inputs, labels = trainee.examples(np.array([5, 2]), b"")

    assert trainee.fresh is None
    assert torch.equal(inputs, trainee.inputs[[5, 2]])
    assert torch.equal(labels, trainee.labels[[5, 2]])


def test_what_is_looked_at_is_not_augmented(digits: Dataset) -> None:
    plain, with_steps = ready(digits, {"training.augmentation": "[]"}), ready(digits)

    test = digits.splits.test

    assert torch.equal(plain.features(test)[0], with_steps.features(test)[0])
    assert torch.equal(with_steps.features(test)[0], with_steps.features(test)[0])


# -- Sensitivity ----------------------------------------------------------------------


@given(seed=st.integers(0, 2**32 - 1), patients=st.integers(1, 9), views=st.integers(1, 4))
@settings(max_examples=8, deadline=None)
def test_a_patient_with_many_views_moves_the_sum_by_at_most_the_clip(
    digits: Dataset, seed: int, patients: int, views: int
) -> None:
    whole = ready(digits, {"training.views": str(views)}).trainee(0)
    weights = np.random.default_rng(seed).normal(size=650).astype(np.float32)

    first, second = (
        whole.clipped_sum(weights, whole.rows[:count], CLIP) for count in (patients, patients + 1)
    )

    assert float(np.linalg.norm(first - second)) <= CLIP


# -- Runs -----------------------------------------------------------------------------


def run(folder: Path, arm: str, changes: dict[str, str]) -> Run:
    return Run(project=make_project(changes), arm=arm, seed=0, folder=folder, threads=2)


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_trains_on_fresh_views(tmp_path: Path, arm: str, digits: Dataset) -> None:
    few = CHANGES | {
        "training.views": "1",
        "training.rounds": "1",
        "training.augmentation": '[{ name = "flip" }]',
        "dp.expected_batch": "40",
    }
    sites = 4 if ARMS[arm].federated else 1
    plain = few | {"training.augmentation": "[]"}

    train_arm(run(tmp_path / "a", arm, few), digits, NobodyWatches(), same_seeds(sites))
    train_arm(run(tmp_path / "b", arm, few), digits, NobodyWatches(), same_seeds(sites))
    train_arm(run(tmp_path / "c", arm, plain), digits, NobodyWatches(), same_seeds(sites))

    left, again, other = (load_file(tmp_path / name / MODEL) for name in "abc")
    assert torch.equal(left["linear.weight"], again["linear.weight"])
    assert not torch.equal(left["linear.weight"], other["linear.weight"])


def test_the_first_model_is_the_same_with_and_without(digits: Dataset) -> None:
    one, two = ready(digits), ready(digits, {"training.augmentation": "[]"})

    assert flatten(one.trained).tobytes() == flatten(two.trained).tobytes()


# -- Projects -------------------------------------------------------------------------


def test_a_project_that_augments_is_written_down_and_read_again() -> None:
    project = make_project(CHANGES)

    assert parse_project(project.resolved()) == project
    assert project.terms("federated-dp") != make_project().terms("federated-dp")


def test_mixup_is_refused_with_its_reason() -> None:
    with pytest.raises(ConfigError, match=r"mixup.*no gradient is one patient's"):
        make_project({"training.augmentation": '[{ name = "mixup" }]'})


def test_tables_have_no_augmentation(digits: Dataset) -> None:
    def flat(records: Records) -> Records:
        return replace(records, inputs=records.inputs.reshape(len(records), -1).astype(np.float32))

    old = digits.splits
    splits = replace(
        old, train=flat(old.train), validation=flat(old.validation), test=flat(old.test)
    )

    with pytest.raises(DataError, match="remove it for tables"):
        ready(replace(digits, splits=splits))


def test_a_team_of_processes_does_not_train_on_plain_images_in_silence(digits: Dataset) -> None:
    project = make_project(CHANGES)
    blueprint = Blueprint(
        project=project.resolved(), arm="federated-dp", shape=(1, 8, 8), classes=10, seed=0
    )

    with pytest.raises(ConfigError, match="this site has 2 processes; expected one"):
        SiteTeam(ready(digits).trainee(0), blueprint, processes=2, seconds=1.0)

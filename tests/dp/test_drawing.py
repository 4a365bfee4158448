# SPDX-License-Identifier: Apache-2.0
"""Tests of drawing: whose records are in a batch, in which places, and that places stay."""

import pytest
import torch

from consilium.dp.clipping import PatientBatch
from consilium.dp.drawing import Roster
from consilium.dp.per_patient import Chunk
from consilium.dp.plan import Plan, alone
from consilium.errors import PrivacyError
from consilium.keystream import Keystream

COUNTS = [1, 3, 2, 1, 5, 1, 1, 2]
CPU = torch.device("cpu")


def plan(probability: float = 0.5, patients: int = 8, most: int | None = None) -> Plan:
    return Plan(
        sampling_probability=probability,
        patients=patients,
        l2_clip_norm=1.0,
        noise_multiplier=2.0,
        steps=1,
        delta=0.1,
        dimension=3,
        shares=alone(1),
        bits=32,
        most_drawn=most,
    )


def records() -> PatientBatch:
    """Records whose input is their row and whose label is their patient."""
    patients = torch.repeat_interleave(torch.arange(8), torch.tensor(COUNTS))
    inputs = torch.arange(1.0, 1 + len(patients))[:, None, None].expand(-1, 2, 3)
    mixed = torch.randperm(len(patients), generator=torch.Generator().manual_seed(0))
    return PatientBatch(
        inputs=inputs[mixed].contiguous(), labels=patients[mixed], patients=patients[mixed] * 7
    )


def coins(key: int) -> Keystream:
    return Keystream(key.to_bytes(32, "big"))


def placed(key: int, most: int, probability: float = 0.5) -> Chunk:
    batch = Roster(records(), plan(probability, most=most)).draw(coins(key), CPU)
    assert isinstance(batch, Chunk)
    return batch


def test_everybody_has_all_records_in_a_whole_sample() -> None:
    batch = Roster(records(), plan(1.0)).draw(coins(1), CPU)

    assert isinstance(batch, PatientBatch)
    assert sorted(batch.inputs[:, 0, 0].tolist()) == list(range(1, 17))


@pytest.mark.parametrize("key", range(1, 20))
def test_places_have_one_shape_and_hold_whole_patients(key: int) -> None:
    batch = placed(key, most=7)

    assert batch.inputs.shape == (7, 8, 2, 3)
    assert batch.labels.shape == batch.weights.shape == (7, 8)
    for place in range(7):
        taken = batch.weights[place] > 0
        owners = set(batch.labels[place][taken].tolist())
        if not taken.any():
            assert not batch.inputs[place].any()
            continue
        assert len(owners) == 1
        assert int(taken.sum()) == COUNTS[owners.pop()]
        assert float(batch.weights[place].sum()) == pytest.approx(1)
        assert len(set(batch.inputs[place][taken][:, 0, 0].tolist())) == int(taken.sum())


def test_places_hold_the_patients_that_a_whole_sample_has() -> None:
    whole = Roster(records(), plan()).draw(coins(3), CPU)

    batch = placed(3, most=8)

    assert set(batch.labels[batch.weights > 0].tolist()) == set(whole.labels.tolist())


def test_a_sample_that_is_too_large_is_cut() -> None:
    batch = placed(2, most=7, probability=0.51)
    full = Roster(records(), plan(0.51)).draw(coins(2), CPU)

    assert int(batch.present.sum()) == min(7, len(set(full.labels.tolist())))


def test_nobody_gives_places_that_are_all_empty() -> None:
    nobody = PatientBatch(
        inputs=torch.zeros(0, 2, 3), labels=torch.zeros(0).long(), patients=torch.zeros(0).long()
    )

    batch = Roster(nobody, plan(most=7)).draw(coins(1), CPU)

    assert isinstance(batch, Chunk)
    assert batch.inputs.shape == (7, 1, 2, 3)
    assert not batch.present.any()


def test_more_patients_than_the_cut_is_priced_for_are_refused() -> None:
    with pytest.raises(PrivacyError, match="of 8 patients, expected at most 7"):
        Roster(records(), plan(patients=7, most=7))

# SPDX-License-Identifier: Apache-2.0
"""Tests of a private step by two processes together: it is the step of one."""

from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import start_processes
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parameters_to_vector
from torch.optim import SGD

from consilium.adapters.process_group import ProcessGroup
from consilium.dp.clip_kinds import FLAT, Clip, Clipping, Counted, PerLayer, Quantile
from consilium.dp.clipping import PatientBatch, check_layers, sum_of_patients
from consilium.dp.per_patient import Objective
from consilium.dp.plan import Plan, alone
from consilium.dp.private_training import Parts, PrivateTraining
from consilium.errors import ConfigError, PrivacyError

PLANS: list[tuple[Clipping, int | None]] = [
    (FLAT, None),
    (FLAT, 13),
    (PerLayer(), 14),
    (Quantile(), None),
]


def loss(outputs: Tensor, labels: Tensor) -> Tensor:
    return outputs.square().mean(1) * (1 + labels)


def records() -> PatientBatch:
    rows = torch.arange(30)
    inputs = torch.randn(30, 4, generator=torch.Generator().manual_seed(2))
    return PatientBatch(inputs=inputs, labels=rows % 2, patients=rows % 11)


def model() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))


def secrets() -> list[bytes]:
    return [bytes([step]) * 32 for step in range(1, 4)]


def parts(clipping: Clipping, most: int | None, network: nn.Module) -> Parts:
    agreed = Plan(
        sampling_probability=0.7,
        patients=12,
        l2_clip_norm=0.5,
        noise_multiplier=0.7,
        steps=3,
        delta=5e-2,
        dimension=38,
        shares=alone(1),
        bits=32,
        clipping=clipping,
        most_drawn=most,
    )
    optimiser = SGD(network.parameters(), lr=0.5)
    return Parts(model=network, loss=loss, records=records(), plan=agreed, optimiser=optimiser)


def trained(whole: Parts, source: list[bytes]) -> Tensor:
    private = PrivateTraining(whole, iter(source).__next__)
    list(private.steps(3))
    assert private.charged == 3
    return parameters_to_vector(whole.model.parameters()).detach()


def one_of_two(rank: int, folder: str) -> None:
    """What a process does; its results go to a file of its rank."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    team = ProcessGroup()
    found = []
    for clipping, most in PLANS:
        whole = parts(clipping, most, model())
        together = Parts(
            model=whole.model,
            loss=whole.loss,
            records=whole.records,
            plan=whole.plan,
            optimiser=whole.optimiser,
            team=team,
        )
        found.append(trained(together, [bytes([9 * rank + k + 1]) * 32 for k in range(3)]))
    batch = records()
    mine = batch.patients % 2 == rank
    half = PatientBatch(
        inputs=batch.inputs[mine], labels=batch.labels[mine], patients=batch.patients[mine]
    )
    clip = Clip(0.5, Counted(0.1, 0.3))
    found.append(sum_of_patients(Objective(model(), loss), half, clip, team=team))
    with pytest.raises(PrivacyError, match="averages the gradients of processes"):
        check_layers(DistributedDataParallel(model()))
    torch.save(found, f"{folder}/{rank}")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    start_processes(one_of_two, (str(tmp_path),), nprocs=2, start_method="spawn")  # type: ignore[no-untyped-call]  # torch's own

    expected = [trained(parts(*each, model()), secrets()) for each in PLANS]
    clip = Clip(0.5, Counted(0.1, 0.3))
    expected.append(sum_of_patients(Objective(model(), loss), records(), clip))
    for rank in range(2):
        found = torch.load(tmp_path / str(rank), weights_only=True)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_team_without_a_group_is_refused() -> None:
    with pytest.raises(ConfigError, match="no process group"):
        ProcessGroup()

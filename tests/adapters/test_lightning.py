# SPDX-License-Identifier: Apache-2.0
"""Tests of private training inside a Lightning Trainer."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector
from torch.utils.data import DataLoader, TensorDataset

from consilium.dp.clip_kinds import FLAT, Clipping, Quantile
from consilium.dp.clipping import PatientBatch
from consilium.dp.plan import Plan
from consilium.dp.private_training import Goal, plan_for
from consilium.errors import BudgetExceeded, ConfigError, PrivacyError

pytest.importorskip("lightning.pytorch", reason="needs the package lightning")
pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning warns of workers and much else

from lightning.pytorch import Callback, LightningModule, Trainer  # noqa: E402 - after the skip
from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402

from consilium.adapters.lightning import PrivateModule  # noqa: E402

torch.set_num_threads(1)
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def loss(outputs: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(outputs, labels, reduction="none")


def records(patients: int = 100) -> PatientBatch:
    inputs = torch.randn(2 * patients, 3, generator=torch.Generator().manual_seed(5))
    return PatientBatch(
        inputs=inputs, labels=(inputs[:, 0] > 0).long(), patients=torch.arange(2 * patients) // 2
    )


class Own(LightningModule):  # type: ignore[misc]  # Lightning is not there for mypy
    """A module as one would write it, whose own training step must never run."""

    def __init__(self, norm: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(3, 4), norm or nn.Tanh(), nn.Linear(4, 2))
        self.validated = 0

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.net(inputs)
        return outputs

    def training_step(self, *_: object) -> Tensor:
        raise AssertionError("not private")

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        self.validated += len(batch[0])

    def configure_optimizers(self) -> object:
        optimiser = torch.optim.Adam(self.parameters(), lr=0.1)
        return [optimiser], [torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.9)]


def plan(own: nn.Module, steps: int = 12, clipping: Clipping = FLAT) -> Plan:
    goal = Goal(epsilon=8.0, delta=1e-3, expected_batch=50, steps=steps, clipping=clipping)
    return plan_for(own, records(), goal)


def trainer(folder: Path, *callbacks: Callback, **settings: object) -> Trainer:
    quiet: dict[str, object] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": bool(callbacks),
        "max_epochs": 1,
    }
    return Trainer(default_root_dir=folder, callbacks=list(callbacks), **{**quiet, **settings})


def module(own: LightningModule | None = None, **changes: int | Clipping) -> PrivateModule:
    own = own or Own()
    return PrivateModule(own, loss, records(), plan(own, **changes))  # type: ignore[arg-type]  # tests name what they change


def vector(network: nn.Module) -> Tensor:
    return parameters_to_vector(network.parameters()).detach().clone()


def test_a_trainer_takes_all_private_steps_and_learns(tmp_path: Path) -> None:
    own = Own()
    private = module(own, steps=25)
    loop = trainer(tmp_path)

    loop.fit(private, val_dataloaders=DataLoader(TensorDataset(torch.zeros(7, 3)), batch_size=7))

    assert private.charged == loop.global_step == 25
    assert own.validated > 0
    data = records()
    assert (own(data.inputs).argmax(1) == data.labels).double().mean() > 0.9
    assert loop.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 * 0.9**25)
    assert loop.callback_metrics["charged_steps"] == 25


@pytest.mark.parametrize("settings", [{"max_epochs": 3}, {"max_steps": 99, "max_epochs": -1}])
def test_a_trainer_that_goes_on_is_stopped_by_the_plan(
    tmp_path: Path, settings: dict[str, int]
) -> None:
    private = module(steps=3)

    trainer(tmp_path, **settings).fit(private)

    assert private.charged == 3
    with pytest.raises(BudgetExceeded, match="3 of 3 steps are charged"):
        trainer(tmp_path, **settings).fit(private)


def test_a_trainer_that_stops_early_has_charged_what_it_took(tmp_path: Path) -> None:
    private = module()

    trainer(tmp_path, max_steps=4).fit(private)

    assert private.charged == 4


def test_a_restart_goes_on_from_the_charge_of_the_checkpoint(tmp_path: Path) -> None:
    first = module(clipping=Quantile())
    saving = ModelCheckpoint(dirpath=tmp_path, filename="last", every_n_train_steps=5)
    trainer(tmp_path, saving, max_steps=5).fit(first)

    again = module(clipping=Quantile())
    loop = trainer(tmp_path)
    loop.fit(again, ckpt_path=tmp_path / "last.ckpt")

    assert first.charged == 5
    assert again.charged == 12


def test_the_charge_of_a_process_never_goes_back(tmp_path: Path) -> None:
    private = module()
    saving = ModelCheckpoint(dirpath=tmp_path, filename="early", every_n_train_steps=2)
    trainer(tmp_path, saving, max_steps=2).fit(private)
    trainer(tmp_path, max_steps=8).fit(private)
    charged = private.charged

    trainer(tmp_path, max_steps=3).fit(private, ckpt_path=tmp_path / "early.ckpt")

    assert private.charged > charged


def test_half_precision_by_the_trainer_is_within_the_step(tmp_path: Path) -> None:
    private = module(steps=2)

    trainer(tmp_path, precision="bf16-mixed").fit(private)

    assert vector(private).isfinite().all()
    assert private.charged == 2


class Two(Own):
    def configure_optimizers(self) -> object:
        return [torch.optim.SGD(self.parameters(), lr=0.1) for _ in range(2)]


class Half:
    """As much of a trainer as the refusal looks at."""

    world_size, precision = 1, "16-mixed"


def test_several_optimisers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1 optimiser"):
        trainer(tmp_path).fit(module(Two()))


def test_a_model_that_mixes_patients_is_refused_without_a_charge(tmp_path: Path) -> None:
    private = module(Own(nn.BatchNorm1d(4)))

    with pytest.raises(PrivacyError, match="BatchNorm1d"):
        trainer(tmp_path).fit(private)

    assert private.charged == 0


def test_clipping_by_the_trainer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="Automatic gradient clipping is not supported"):
        trainer(tmp_path, gradient_clip_val=1.0).fit(module())


def test_precision_that_unscales_gradients_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    private = module()
    optimiser: Callable[[], object] = lambda: torch.optim.SGD(private.parameters(), lr=1)  # noqa: E731
    monkeypatch.setattr(private, "optimizers", optimiser)
    monkeypatch.setattr(PrivateModule, "trainer", Half())

    with pytest.raises(ConfigError, match="16-mixed"):
        private.on_train_start()

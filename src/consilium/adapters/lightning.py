# SPDX-License-Identifier: Apache-2.0
"""A LightningModule trained privately inside a Lightning `Trainer`.

    module = PrivateModule(own_module, loss, records, plan)
    Trainer(max_epochs=1).fit(module)

The `Trainer` brings devices, callbacks, loggers and checkpoints; a training step is one step of
`PrivateTraining` and nothing else. The module's own `training_step` and training data are not
used: what a step is cannot be left to them. Its `configure_optimizers`, validation, test and
prediction are. The optimiser moves by the noised gradient only, so that whatever the `Trainer`
does around it is post-processing.

Guarantees: those of `PrivateTraining`. Within a process the charge never goes back, whatever
checkpoint is loaded; in another process it goes on from the checkpoint's. It fails when a
callback or a validation step lets something out about training records, and when a run goes on
from an older checkpoint than the newest that was shown to somebody.

Refused: several processes (Lightning would run them without a common draw), gradient clipping
by the `Trainer` (refused by Lightning), "16-mixed" precision (it divides the gradient by a scale
that it was never multiplied with), and several optimisers.
Source: Lightning 2.6, manual optimisation.
"""

from typing import Any, Final, final

from lightning.pytorch import LightningModule
from torch import Tensor

from consilium.dp.clipping import PatientBatch
from consilium.dp.per_patient import PerRecordLoss
from consilium.dp.plan import Plan
from consilium.dp.private_training import Parts, PrivateTraining
from consilium.errors import ConfigError

_KEY: Final = "consilium.private_training"


@final
class PrivateModule(LightningModule):  # type: ignore[misc]  # Lightning is not there for mypy
    """A LightningModule around another one, whose training steps are private.

    Raises:
        PrivacyError, ConfigError: On `Trainer.fit`, as `privatize`; or a setting is refused.
    """

    def __init__(
        self, module: LightningModule, loss: PerRecordLoss, records: PatientBatch, plan: Plan
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.module = module
        self._loss, self._records, self._plan = loss, records, plan
        self._charged = 0
        self._clip_norm = plan.l2_clip_norm
        self._private: PrivateTraining | None = None

    @property
    def charged(self) -> int:
        """Steps so far, those before a restart included."""
        return self._charged

    def train_dataloader(self) -> range:
        """Returns one tick for each step of the plan; patients are drawn, not loaded.

        Those of steps taken before a restart are passed over by Lightning.
        """
        return range(self._plan.steps)

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning allows many things
        """Returns what the module configures."""
        return self.module.configure_optimizers()

    def on_train_start(self) -> None:
        """Puts the parts together, and refuses what would not be what it says.

        Raises:
            PrivacyError, ConfigError: The parts, or a setting of the trainer, are refused.
        """
        optimiser = self.optimizers()
        if self.trainer.world_size != 1 or isinstance(optimiser, list):
            raise ConfigError(
                f"{self.trainer.world_size} processes and optimisers {optimiser}; expected 1 "
                "process and 1 optimiser: several processes train as a team, without a Trainer"
            )
        if self.trainer.precision == "16-mixed":
            raise ConfigError('precision is "16-mixed"; expected "bf16-mixed" or "32-true"')
        parts = Parts(
            model=self.module,
            loss=self._loss,
            records=self._records,
            plan=self._plan,
            optimiser=optimiser,
            charged=self._charged,
            l2_clip_norm=self._clip_norm,
        )
        self._private = PrivateTraining(parts)

    def training_step(self, batch: int, batch_idx: int) -> None:
        """Takes one private step, and the schedulers' with it; the plan's last one ends the fit.

        Raises:
            BudgetExceeded, PrivacyError: As `PrivateTraining.step`.
        """
        del batch, batch_idx
        assert self._private is not None  # noqa: S101 - on_train_start comes first
        try:
            report = self._private.step()
        finally:
            self._charged = self._private.charged
            self._clip_norm = self._private.l2_clip_norm
        for scheduler in self.trainer.lr_scheduler_configs:
            scheduler.scheduler.step()
        self.log("charged_steps", float(report.charged), batch_size=1)
        self.trainer.should_stop |= not report.left

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Puts what is charged next to the weights that it was charged for."""
        checkpoint[_KEY] = {"charged": self._charged, "l2_clip_norm": self._clip_norm}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Goes on from a checkpoint; the charge of this process never goes back."""
        before = checkpoint[_KEY]
        self._charged = max(self._charged, before["charged"])
        self._clip_norm = before["l2_clip_norm"]

    # -- The module's own

    def forward(self, *inputs: Tensor) -> Any:  # noqa: ANN401 - whatever the module returns
        """Returns the module's output."""
        return self.module(*inputs)

    def validation_step(self, *given: Any) -> Any:  # noqa: ANN401
        """Does what the module does."""
        return self.module.validation_step(*given)

    def test_step(self, *given: Any) -> Any:  # noqa: ANN401
        """Does what the module does."""
        return self.module.test_step(*given)

    def predict_step(self, *given: Any) -> Any:  # noqa: ANN401
        """Does what the module does."""
        return self.module.predict_step(*given)

# SPDX-License-Identifier: Apache-2.0
"""What a model is trained for: a loss for each record, and probabilities out of its outputs.

The loss is never averaged here: who clips per patient, or weights, or averages, needs every
record's own value.
"""

import math
from dataclasses import dataclass
from typing import Protocol, final

import torch
import torch.nn.functional as F  # noqa: N812 - the name that readers of PyTorch know
from torch import Tensor

from consilium.errors import ConfigError


class Task(Protocol):
    """Maps a model's outputs to losses and to probabilities, record by record."""

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Returns the losses (n,) of outputs (n, ...) against labels (n,)."""
        ...

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Returns probabilities (n, classes), rows summing to one, of outputs (n, ...)."""
        ...


@final
@dataclass(frozen=True, slots=True)
class Classification:
    """One of `classes` classes a record: cross-entropy of the softmax of one logit a class.

    Attributes:
        classes: How many, at least 2.
        class_weights: A public constant for each class that multiplies the loss of its
            records; empty for 1 each. Weights counted from private labels are a release.

    Raises:
        ConfigError: Fewer than two classes, or weights that are not one number > 0 a class.
    """

    classes: int
    class_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise ConfigError(f"classes={self.classes}, expected 2 or more; count every class")
        positive = all(math.isfinite(weight) and weight > 0 for weight in self.class_weights)
        if len(self.class_weights) not in (0, self.classes) or not positive:
            raise ConfigError(
                f"class_weights={self.class_weights}, expected {self.classes} numbers > 0; "
                "give one to each class, or none at all"
            )

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Returns the cross-entropy (n,), in nats, of logits (n, classes), labels (n,) int64."""
        losses = F.cross_entropy(outputs, labels, reduction="none")
        if not self.class_weights:
            return losses
        return losses * outputs.new_tensor(self.class_weights)[labels]

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Returns the softmax (n, classes) of logits (n, classes)."""
        return torch.softmax(outputs, dim=1)

# SPDX-License-Identifier: Apache-2.0
"""What a model is trained for: a loss for each record, and probabilities out of its outputs.

The loss is never averaged here: who clips per patient, or weights, or averages, needs every
record's own value.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal, Protocol, TypeAlias, final, get_args

import torch
import torch.nn.functional as F  # noqa: N812 - the name that readers of PyTorch know
from torch import Tensor, nn

from consilium.errors import ConfigError

MapLoss: TypeAlias = Literal["dice", "dice-ce"]

SMOOTHING: Final = 50.0  # pixels, added to both sides of the Dice quotient of one image


class Task(Protocol):
    """Maps a model's outputs to losses and to probabilities, record by record."""

    @property
    def classes(self) -> int:
        """How many."""
        ...

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Returns the losses (n,) of outputs (n, ...) against labels (n,) or maps (n, ...)."""
        ...

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Returns probabilities (n, classes, ...), summing to one over the classes."""
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
        _check_classes(self.classes, self.class_weights)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Returns the cross-entropy (n,), in nats, of logits (n, classes).

        Labels are numbers (n,), int64, or soft: (n, classes), float32, each class's part weighted.
        """
        if labels.is_floating_point():
            weights = outputs.new_tensor(self.class_weights or (1.0,) * self.classes)
            return -(torch.log_softmax(outputs, dim=1) * labels * weights).sum(dim=1)
        losses = F.cross_entropy(outputs, labels, reduction="none")
        if not self.class_weights:
            return losses
        return losses * outputs.new_tensor(self.class_weights)[labels]

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Returns the softmax (n, classes) of logits (n, classes)."""
        return torch.softmax(outputs, dim=1)


def _check_classes(classes: int, class_weights: tuple[float, ...]) -> None:
    if classes < 2:
        raise ConfigError(f"classes={classes}, expected 2 or more; count every class")
    positive = all(math.isfinite(weight) and weight > 0 for weight in class_weights)
    if len(class_weights) not in (0, classes) or not positive:
        raise ConfigError(
            f"class_weights={class_weights}, expected {classes} numbers > 0; "
            "give one to each class, or none at all"
        )


# -- Label maps -----------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Segmentation:
    """One of `classes` classes a pixel, the first of which is the background.

    `dice` is MONAI's soft Dice loss of each image: the mean over the foreground classes of
    1 - (2 |truth * p| + s) / (|truth| + |p| + s), sums over the pixels of one image. The s of
    `SMOOTHING` keeps an image without a class from pulling as hard as one that is full of it.
    `dice-ce` adds the mean cross-entropy of the pixels, in nats, weighted by class.

    Attributes:
        classes: How many, background included, at least 2.
        kind: Which loss.
        class_weights: Of the cross-entropy of a pixel of each class, as for `Classification`.

    Raises:
        ConfigError: Fewer than two classes, another kind, or weights that are not one number
            > 0 a class or that nothing reads.
    """

    classes: int
    kind: MapLoss = "dice-ce"
    class_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _check_classes(self.classes, self.class_weights)
        if self.kind not in get_args(MapLoss):
            raise ConfigError(f"kind={self.kind!r}, expected one of 'dice', 'dice-ce'")
        if self.kind == "dice" and self.class_weights:
            raise ConfigError(
                "class_weights with loss 'dice', which does not read them; expected none: remove "
                "them or use 'dice-ce'"
            )

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Returns the loss (n,) of logits (n, classes, [d,] h, w) against maps (n, [d,] h, w)."""
        numbers = torch.arange(self.classes, device=labels.device).view(
            -1, *[1] * (labels.ndim - 1)
        )
        truth = (labels.unsqueeze(1) == numbers).to(outputs.dtype)
        dice: Tensor = _dice_loss()(outputs, truth).flatten(1).mean(dim=1)
        if self.kind == "dice":
            return dice
        weights = self.class_weights or (1.0,) * self.classes
        logarithms = torch.log_softmax(outputs, dim=1) * truth
        own = logarithms.flatten(2).mean(dim=2) * outputs.new_tensor(weights)
        return dice - own.sum(dim=1)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Returns the softmax (n, classes, [d,] h, w) of logits of that shape."""
        return torch.softmax(outputs, dim=1)


@cache
def _dice_loss() -> nn.Module:
    try:
        from monai.losses.dice import DiceLoss  # noqa: PLC0415 - two seconds to load
    except ImportError:
        raise ConfigError(
            "label maps need monai, which is not installed; expected the extra: "
            "pip install consilium[segmentation]"
        ) from None

    loss: nn.Module = DiceLoss(
        include_background=False,
        softmax=True,
        reduction="none",
        smooth_nr=SMOOTHING,
        smooth_dr=SMOOTHING,
    )
    return loss

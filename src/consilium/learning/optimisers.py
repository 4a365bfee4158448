# SPDX-License-Identifier: Apache-2.0
"""Momentum SGD and Adam on flat float32 vectors: values in, values out.

The coordinator takes these steps on the average that a round released, so under differential
privacy they are post-processing: they cost no budget, whatever their settings. The arithmetic
is that of `torch.optim`, entry by entry.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, assert_never, final

import numpy as np
from numpy.typing import NDArray

from consilium.errors import ConfigError, DataError
from consilium.learning.parameters import Vector

# -- Settings -------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Sgd:
    """Stochastic gradient descent.

    v <- momentum * v + g + weight_decay * w;  w <- w - rate * v. With `nesterov` the step is
    g + weight_decay * w + momentum * v instead of v.
    """

    momentum: float = 0.0
    nesterov: bool = field(default=False, kw_only=True)
    weight_decay: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        _check_share("momentum", self.momentum)
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ConfigError(f"weight_decay={self.weight_decay}, expected 0 or more")
        if self.nesterov and self.momentum == 0:
            raise ConfigError("nesterov with momentum=0.0, expected momentum > 0; set it to 0.9")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Adam:
    """Adam: m and v are running means of g and g**2, corrected for starting at zero.

    m <- beta1 * m + (1 - beta1) * g;  v <- beta2 * v + (1 - beta2) * g**2;
    w <- w - rate * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + eps).
    Source: Kingma and Ba 2015, algorithm 1 (arXiv:1412.6980v9).
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        _check_share("beta1", self.beta1)
        _check_share("beta2", self.beta2)
        if not (math.isfinite(self.eps) and self.eps > 0):
            raise ConfigError(f"eps={self.eps}, expected a number > 0; set it to 1e-8")


Optimiser: TypeAlias = Sgd | Adam


def _check_share(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ConfigError(f"{name}={value}, expected 0 or more and less than 1")


# -- State ----------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OptimiserState:
    """What an optimiser remembers between steps; each update makes a new one.

    `first` is the velocity of `Sgd` and the mean of `Adam`, shape (dimension,); `second` is
    the mean square of `Adam`, and of length 0 for `Sgd`.
    """

    steps: int
    first: Vector = field(repr=False)
    second: Vector = field(repr=False)

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Returns the state as named arrays, copied, for a checkpoint."""
        return {
            "steps": np.array([self.steps], dtype=np.int64),
            "first": self.first.copy(),
            "second": self.second.copy(),
        }

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> "OptimiserState":
        """Returns the state that `to_arrays` wrote.

        Raises:
            DataError: A name is missing or unknown, or an array has another type or shape.
        """
        kinds = {name: (array.dtype.str, array.ndim) for name, array in arrays.items()}
        if kinds != {"steps": ("<i8", 1), "first": ("<f4", 1), "second": ("<f4", 1)}:
            raise DataError(
                f"optimiser state has arrays {kinds}, expected int64 steps and float32 first "
                "and second; use a checkpoint of this version"
            )
        if arrays["steps"].shape != (1,) or int(arrays["steps"][0]) < 0:
            raise DataError("optimiser state has no count of steps; use a complete checkpoint")
        return OptimiserState(
            steps=int(arrays["steps"][0]),
            first=arrays["first"].astype(np.float32),
            second=arrays["second"].astype(np.float32),
        )


def initial(optimiser: Optimiser, dimension: int) -> OptimiserState:
    """Returns the state before the first step, for weights of shape (dimension,)."""
    return OptimiserState(
        steps=0,
        first=np.zeros(dimension, dtype=np.float32),
        second=np.zeros(_second_length(optimiser, dimension), dtype=np.float32),
    )


def _second_length(optimiser: Optimiser, dimension: int) -> int:
    return dimension if isinstance(optimiser, Adam) else 0


# -- Step -----------------------------------------------------------------------------


def update(
    optimiser: Optimiser,
    state: OptimiserState,
    gradient: Vector,
    learning_rate: float,
    weights: Vector,
) -> tuple[OptimiserState, Vector]:
    """Returns the state and the weights after one step against `gradient`.

    Args:
        optimiser: The settings.
        state: Of the same optimiser, from `initial` or the last update.
        gradient: Shape (dimension,), float32.
        learning_rate: Of this step.
        weights: Shape (dimension,), float32.

    Guarantees: no argument is changed; the results are new arrays.

    Raises:
        ValueError: The shapes or types do not agree, or `state` is of another optimiser.
    """
    _check_vectors(optimiser, state, gradient, weights)
    match optimiser:
        case Sgd():
            return _sgd(optimiser, state, gradient, learning_rate, weights)
        case Adam():
            return _adam(optimiser, state, gradient, learning_rate, weights)
        case _:
            assert_never(optimiser)


def _sgd(
    optimiser: Sgd, state: OptimiserState, gradient: Vector, rate: float, weights: Vector
) -> tuple[OptimiserState, Vector]:
    pull = gradient + np.float32(optimiser.weight_decay) * weights
    velocity = np.float32(optimiser.momentum) * state.first + pull
    step = pull + np.float32(optimiser.momentum) * velocity if optimiser.nesterov else velocity
    moved = OptimiserState(steps=state.steps + 1, first=velocity, second=state.second)
    return moved, weights - np.float32(rate) * step


def _adam(
    optimiser: Adam, state: OptimiserState, gradient: Vector, rate: float, weights: Vector
) -> tuple[OptimiserState, Vector]:
    steps = state.steps + 1
    beta1, beta2 = optimiser.beta1, optimiser.beta2
    mean = np.float32(beta1) * state.first + np.float32(1 - beta1) * gradient
    square = np.float32(beta2) * state.second + np.float32(1 - beta2) * gradient**2
    root: Vector = np.sqrt(square)
    spread = root / np.float32(math.sqrt(1 - beta2**steps)) + np.float32(optimiser.eps)
    moved = OptimiserState(steps=steps, first=mean, second=square)
    return moved, weights - np.float32(rate / (1 - beta1**steps)) * mean / spread


def _check_vectors(
    optimiser: Optimiser, state: OptimiserState, gradient: Vector, weights: Vector
) -> None:
    shape = weights.shape
    if {gradient.dtype, weights.dtype} != {np.dtype(np.float32)}:
        raise ValueError(f"{gradient.dtype=}, {weights.dtype=}, expected float32 for both")
    if len(shape) != 1 or not gradient.shape == state.first.shape == shape:
        raise ValueError(
            f"{gradient.shape=}, state of shape {state.first.shape} and {weights.shape=}, "
            "expected one shape (dimension,); start from `initial` with this dimension"
        )
    if len(state.second) != _second_length(optimiser, len(weights)):
        raise ValueError(
            f"state belongs to another optimiser than {type(optimiser).__name__}; "
            "start from `initial` of this one"
        )

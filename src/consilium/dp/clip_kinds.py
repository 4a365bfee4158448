# SPDX-License-Identifier: Apache-2.0
"""The kinds of clipping: how a patient's gradient becomes a vector of bounded norm.

Four immutable values, of which a plan holds one; `bound` is the plan's `l2_clip_norm`, C:

    Flat         one norm over all parameters, at most C.                         (the default)
    PerLayer     a norm for each part of the parameters, whose squares sum to C^2.
    Automatic    every gradient is scaled to a norm just below C; nothing to tune.
    Quantile     the clip norm follows a quantile of the patients' norms, at no extra event.

Guarantees: whatever the gradient, the patient's vector has norm <= C. So one patient added or
removed moves the sum by at most C, and the event of a step is the same Gaussian of
`noise_multiplier` for all four. Each class states and proves its own part.

Not here: norms that are not finite (the engines make such a patient's vector zero), the slack
for rounding (`clipping`), and noise.
Source: McMahan et al. 2018, section 2 (arXiv:1710.06963) for parts; the others name theirs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from consilium.errors import ConfigError

_FARTHEST: Final = 1e6  # times or part of the first clip norm that `Quantile` may reach


class Rule(Protocol):
    """What an engine asks of a kind; norms and factors are float64, (patients, parts)."""

    def parts(self, names: Sequence[str]) -> tuple[int, ...]:
        """Returns for each trained parameter the part of the gradient it belongs to, from 0."""
        ...

    def factors(self, norms: Tensor, bound: float) -> Tensor:
        """Returns what to multiply each part of each gradient by."""
        ...

    def mark(self, norms: Tensor, bound: float) -> Tensor | None:
        """Returns one coordinate more of each patient's vector, (patients,), or None."""
        ...


# -- Kinds without memory -------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Flat:
    """g becomes min(1, C / |g|) g.

    Source: Abadi et al. 2016, Alg. 1 (arXiv:1607.00133v2).
    """

    def parts(self, names: Sequence[str]) -> tuple[int, ...]:
        """Returns one part for all parameters."""
        return (0,) * len(names)

    def factors(self, norms: Tensor, bound: float) -> Tensor:
        """Returns min(1, C / |g|)."""
        return (bound / norms).clamp(max=1)

    def mark(self, norms: Tensor, bound: float) -> None:
        """Returns None: the vector is the gradient alone."""


@final
@dataclass(frozen=True, slots=True)
class PerLayer:
    """Part k of g is clipped by itself, to norm C w_k / |w|.

    Attributes:
        weights: Pairs of a name and w_k. A parameter belongs to the first pair whose name is
            its own or that of a module around it; "" is around everything. None at all: every
            trained tensor is a part of its own, all of equal weight.

    Guarantees: the parts' bounds have squares that sum to C^2, so the whole vector has norm
        <= C. A part that is frozen keeps its share, which nobody else gets.

    Raises:
        ConfigError: A weight is not positive and finite, or a name comes twice.
    """

    weights: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if not all(0 < weight < math.inf for _, weight in self.weights):
            raise ConfigError(f"weights are {self.weights}; expected finite numbers above 0")
        if len(dict(self.weights)) < len(self.weights):
            raise ConfigError(f"weights are {self.weights}; expected each name once")

    def parts(self, names: Sequence[str]) -> tuple[int, ...]:
        """Returns the part of each parameter.

        Raises:
            ConfigError: A parameter belongs to no part.
        """
        if not self.weights:
            return tuple(range(len(names)))
        return tuple(map(self._part, names))

    def factors(self, norms: Tensor, bound: float) -> Tensor:
        """Returns min(1, C_k / |g_k|) for each part k."""
        weights = [weight for _, weight in self.weights] or [1.0] * norms.shape[1]
        shares = norms.new_tensor(weights) / math.hypot(*weights)
        return (bound * shares[: norms.shape[1]] / norms).clamp(max=1)

    def mark(self, norms: Tensor, bound: float) -> None:
        """Returns None: the vector is the gradient alone."""

    def _part(self, name: str) -> int:
        for part, (around, _) in enumerate(self.weights):
            if around in ("", name) or name.startswith(f"{around}."):
                return part
        raise ConfigError(
            f"parameter {name!r} belongs to none of the parts {[n for n, _ in self.weights]}; "
            'expected one: add it, or ("", weight) for all others'
        )


@final
@dataclass(frozen=True, slots=True)
class Automatic:
    """g becomes C g / (|g| + gamma): every gradient counts about the same, small ones less.

    Attributes:
        gamma: Norm below which a gradient keeps a part of its size. The larger, the less a
            patient with a small gradient weighs.

    Guarantees: the norm is C |g| / (|g| + gamma) < C for every g. With C moved into the
        learning rate, no clip norm has to be chosen.

    Raises:
        ConfigError: `gamma` is not positive and finite; at 0 a gradient of rounding errors
            would become one of norm C.

    Source: Bu et al. 2022, AUTO-S, eq. 4.1 with R = C (arXiv:2206.07136).
    """

    gamma: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.gamma < math.inf:
            raise ConfigError(f"gamma is {self.gamma}; expected a finite number above 0")

    def parts(self, names: Sequence[str]) -> tuple[int, ...]:
        """Returns one part for all parameters."""
        return (0,) * len(names)

    def factors(self, norms: Tensor, bound: float) -> Tensor:
        """Returns C / (|g| + gamma)."""
        return bound / (norms + self.gamma)

    def mark(self, norms: Tensor, bound: float) -> None:
        """Returns None: the vector is the gradient alone."""


# -- A clip norm that follows the norms -----------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Quantile:
    """The clip norm C_t follows a quantile of the patients' norms; what it learns is charged.

    A patient's vector at step t is, in units of the plan's l2_clip_norm C,

        v = (cos(angle) g / max(|g|, C_t), sin(angle) b),   b = +1 if |g| <= C_t, else -1.

    Sensitivity: |v|^2 <= cos(angle)^2 + sin(angle)^2 = 1 for every g and every C_t, because
    |g| / max(|g|, C_t) <= 1. So one patient added or removed moves the sum of C v by at most C,
    and the step is the plan's own Gaussian over one coordinate more, with the same noise on
    every coordinate. C_t may be any function of what earlier steps released: the composition
    of Gaussians allows for mechanisms that depend on earlier outputs. Nothing else is charged,
    because nothing else is looked at: the next clip norm is

        C_{t+1} = C_t exp(-learning_rate (fraction - quantile)),
        fraction = (noised sum of b + q N) / (2 q N), within [0, 1],

    in which q N, the public normaliser, stands for the number of patients drawn.

    What it costs: the gradient weighs cos(angle) of what it weighs at the same noise. What it
    gives: the fraction has a standard deviation of z / (2 q N sin(angle)) from noise alone. A
    sum above 384 C is scaled back (`clipping`), the count with it: of more than 384 patients a
    step who agree, the fraction moves less than it should, and never the wrong way.

    Attributes:
        quantile: Part of the patients that are not clipped, in the end.
        learning_rate: Of the logarithm of the clip norm, a step.
        angle: In radians. At 0.1 the gradient loses 0.5 %.

    Raises:
        ConfigError: A number is out of range.

    Source: Andrew et al. 2021, Alg. 1 (arXiv:1905.03871), which splits the noise between two
        sums; here the two are one vector.
    """

    quantile: float = 0.5
    learning_rate: float = 0.2
    angle: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1:
            raise ConfigError(f"quantile is {self.quantile}; expected within (0, 1)")
        if not 0 < self.learning_rate <= 1:
            raise ConfigError(f"learning_rate is {self.learning_rate}; expected within (0, 1]")
        if not 0.01 <= self.angle <= 1:
            raise ConfigError(f"angle is {self.angle}; expected within [0.01, 1] radians")

    def at(self, clip_norm: float) -> "Counted":
        """Returns the rule of a step whose clip norm is `clip_norm`."""
        return Counted(clip_norm, self.angle)

    def gradient(self, mean: NDArray[np.float32], clip_norm: float) -> NDArray[np.float32]:
        """Returns the mean gradient (dimension,) in its own units.

        Args:
            mean: Noised sum over C and q N, shape (dimension + 1,).
            clip_norm: C_t.
        """
        found: NDArray[np.float32] = mean[:-1] * np.float32(clip_norm / math.cos(self.angle))
        return found

    def following(self, mean: NDArray[np.float32], clip_norm: float, first: float) -> float:
        """Returns C_{t+1}, never farther than a factor of a million from the `first`."""
        fraction = min(1.0, max(0.0, (float(mean[-1]) / math.sin(self.angle) + 1) / 2))
        moved = clip_norm * math.exp(-self.learning_rate * (fraction - self.quantile))
        return min(first * _FARTHEST, max(first / _FARTHEST, moved))


@final
@dataclass(frozen=True, slots=True)
class Counted:
    """One step of `Quantile`: its vector, at a clip norm that is known."""

    clip_norm: float
    angle: float

    def parts(self, names: Sequence[str]) -> tuple[int, ...]:
        """Returns one part for all parameters."""
        return (0,) * len(names)

    def factors(self, norms: Tensor, bound: float) -> Tensor:
        """Returns C cos(angle) / max(|g|, C_t)."""
        return bound * math.cos(self.angle) / norms.clamp(min=self.clip_norm)

    def mark(self, norms: Tensor, bound: float) -> Tensor:
        """Returns C sin(angle) where |g| <= C_t, and minus that elsewhere."""
        within = (norms[:, 0] <= self.clip_norm).double()
        return bound * math.sin(self.angle) * (2 * within - 1)


Clipping: TypeAlias = Flat | PerLayer | Automatic | Quantile
FLAT: Final = Flat()


# -- A kind with its bound ------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Clip:
    """A rule and its bound C: all that an engine needs to know.

    Attributes:
        bound: C, of the norm of each patient's vector.
        rule: The kind.
    """

    bound: float
    rule: Rule = FLAT

    @property
    def marks(self) -> int:
        """How many coordinates come after the gradient's."""
        return 1 if isinstance(self.rule, Counted) else 0

    def gathered(self, squares: Tensor, names: Sequence[str]) -> Tensor:
        """Returns the sums over each part (patients, parts) of values (patients, parameters)."""
        parts = self.rule.parts(names)
        place = torch.tensor(parts, device=squares.device)
        return squares.new_zeros(len(squares), 1 + max(parts)).index_add_(1, place, squares)

    def weights(
        self, norms: Tensor, names: Sequence[str], present: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns factors (patients, parameters) and marks (patients, 0 or 1), float64.

        Args:
            norms: Of each part of the gradient, shape (patients, parts), float64.
            names: Of the parameters.
            present: Which places are taken, shape (patients,); the others add no mark.

        Guarantees: a patient with a norm that is not finite gets zeros.
        """
        kept = norms.isfinite().all(dim=1) & present
        factors = self.rule.factors(norms, self.bound).where(kept[:, None], 0)
        mark = self.rule.mark(norms, self.bound)
        place = torch.tensor(self.rule.parts(names), device=norms.device)
        marks = norms.new_zeros(len(norms), 0) if mark is None else mark.where(kept, 0)[:, None]
        return factors[:, place], marks

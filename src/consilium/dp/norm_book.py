# SPDX-License-Identifier: Apache-2.0
"""What a backward pass writes down about a microbatch of patients, and the sum it settles into.

During the backward pass every layer enters its part of each patient's squared norm, and what
is needed to add up the patients afterwards: their gradients (`store`), or the layer's inputs
and output gradients (`ghost`, whose norm comes from Gram matrices, and `drop`, whose gradient
is made for its norm alone). When all parts are in, the clip factors are known, and each
parameter is added up once.

Guarantees: nothing is added unless every entry of every patient is finite. A norm counts at
least what rounding could have hidden from it (`layer_rules`). Gradients are added in float64,
except those of one microbatch by one contraction.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

import torch
from torch import Tensor

from consilium.dp.clip_kinds import Clip
from consilium.dp.layer_rules import Rule, Work, squared_norms

Method: TypeAlias = Literal["store", "ghost", "drop"]

_PIECE: Final = 1 << 16  # values that are widened to float64 at once: they stay in the cache
# Prices in multiplications of a large product, which takes 0.01 ns each on the CPUs measured.
_MAKE: Final = 60  # to write a value of a patient's gradient and square it
_ADD: Final = 60  # to add a value of a patient's gradient to the sum
_PATIENT: Final = 5_000_000  # to start a layer's gradient for one more patient
_GRAM: Final = 3  # to multiply once in Gram matrices


@final
class Sums:
    """The sum over patients, a part for each parameter, and one for their marks.

    A part that consists of one gradient stays as that was made; it widens to float64 when a
    second one comes, so that a single microbatch costs no second copy of the parameters.
    """

    def __init__(self, parameters: Iterable[Tensor], marks: int = 0) -> None:
        self._parts: dict[Tensor, Tensor | None] = dict.fromkeys(parameters)
        device = next(iter(self._parts)).device
        self._marks = torch.zeros(marks, dtype=torch.float64, device=device)
        self._parts[self._marks] = None

    def add(self, parameter: Tensor, gradient: Tensor, factor: float = 1.0) -> None:
        """Adds `factor` times one gradient, of any shape with the parameter's size.

        The gradient is the sum's from then on.
        """
        before, after = self._parts[parameter], gradient.reshape(-1)
        if before is None and factor == 1.0:
            self._parts[parameter] = after
            return
        total = self._widened(parameter, before)
        for part, piece in zip(torch.split(total, _PIECE), torch.split(after, _PIECE), strict=True):
            part.add_(piece.double(), alpha=factor)

    def add_rows(self, parameter: Tensor, rows: Tensor, factors: Tensor) -> None:
        """Adds the sum of rows (patients, ...) times factors (patients,), float64."""
        if rows.numel() <= _PIECE:
            self.add(parameter, factors @ rows.flatten(1).double())
            return
        self._widened(parameter, self._parts[parameter])
        for row, factor in zip(rows, factors.tolist(), strict=True):
            self.add(parameter, row, factor)

    def add_marks(self, marks: Tensor) -> None:
        """Adds the sum of marks (patients, 0 or more), float64."""
        self.add(self._marks, marks.sum(0))

    def merge(self, together: Callable[[Tensor], Tensor]) -> None:
        """Puts in the place of each part what `together` makes of it, float64."""
        for parameter, part in self._parts.items():
            self._parts[parameter] = together(self._widened(parameter, part))

    def bounded(self, most: float, dtype: torch.dtype) -> Tensor:
        """Returns the sum (dimension + marks,), scaled back to norm `most` if it is above."""
        squares = [_squares(part) for part in self._parts.values() if part is not None]
        norm = math.sqrt(sum(squares))
        scale = most / norm if norm > most else 1.0
        first = next(iter(self._parts))
        vector = first.new_zeros(sum(p.numel() for p in self._parts), dtype=dtype)
        places = torch.split(vector, [parameter.numel() for parameter in self._parts])
        for place, part in zip(places, self._parts.values(), strict=True):
            if part is not None:
                place.copy_(part if scale == 1.0 else part.double() * scale)
        return vector

    def _widened(self, parameter: Tensor, before: Tensor | None) -> Tensor:
        if before is None:
            before = torch.zeros_like(parameter, dtype=torch.float64).view(-1)
        total = before.double()
        self._parts[parameter] = total
        return total


def _squares(part: Tensor) -> float:
    return sum(float(piece.double().square().sum()) for piece in torch.split(part, _PIECE))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How a microbatch may be computed.

    Attributes:
        map_bytes: Of the largest map of a microbatch; what is larger leaves the cache.
        gradient_bytes: Of the patients' gradients that are held at once.
        records: At most so many in a microbatch; None leaves it to `map_bytes`.
        method: For every layer, or None: the cheapest for each.
    """

    map_bytes: int = 1 << 24
    gradient_bytes: int = 1 << 25
    records: int | None = None
    method: Method | None = None


@final
class NormBook:
    """One microbatch's entries, and the parameters that may have some."""

    def __init__(self, names: Mapping[Tensor, str], patients: int, budget: Budget) -> None:
        first = next(iter(names))
        self.names = names
        self._budget = budget
        self._room = budget.gradient_bytes
        self._uses = dict.fromkeys(names, 0)
        self._column = {parameter: column for column, parameter in enumerate(names)}
        sizes = (patients, len(names))
        self._squares = torch.zeros(sizes, dtype=torch.float64, device=first.device)
        self._doubt = torch.zeros_like(self._squares)
        self._stored: dict[Tensor, Tensor] = {}
        self._late: dict[Tensor, Callable[[Tensor], Tensor]] = {}

    def announce(self, parameter: Tensor) -> None:
        """Notes in the forward pass that a layer uses a trained parameter."""
        self._uses[parameter] += 1

    def store(self, parameter: Tensor, gradients: Tensor) -> None:
        """Enters the patients' gradients (patients, *shape); those of several uses add up."""
        if parameter not in self._uses:
            return
        before = self._stored.get(parameter)
        self._stored[parameter] = gradients if before is None else before + gradients

    def enter(self, parameter: Tensor, rule: Rule, inputs: Tensor, outputs: Tensor) -> None:
        """Enters one use of a weight, in the form that is cheapest within the budget."""
        if parameter not in self._uses:
            return
        weight = parameter.detach()
        work = rule.work(inputs, outputs, weight)
        method = "store" if self._uses[parameter] > 1 else self._choose(work)
        if method == "store":
            self._room -= work.direct_bytes
            self.store(parameter, rule.gradients(inputs, outputs, weight))
            return
        if method == "ghost":
            squares, doubt = rule.squares(inputs, outputs, weight)
        else:
            squares, doubt = _one_by_one(rule, inputs, outputs, weight)
        self._squares[:, self._column[parameter]] += squares
        self._doubt[:, self._column[parameter]] += doubt
        self._late[parameter] = lambda factors: rule.weighted(inputs, outputs, weight, factors)

    def settle(self, sums: Sums, clip: Clip, present: Tensor) -> bool:
        """Adds every patient who is present (patients,), clipped; or adds nothing: False.

        False: a gradient, or the square of its norm, is not finite.
        """
        for parameter, gradients in self._stored.items():
            self._squares[:, self._column[parameter]] += squared_norms(gradients)
        epsilon = 2 * max(torch.finfo(parameter.dtype).eps for parameter in self.names)
        names = list(self.names.values())
        squares, doubt = clip.gathered(self._squares, names), clip.gathered(self._doubt, names)
        norms = (squares + epsilon * doubt).sqrt() + epsilon * doubt.sqrt()
        if not norms.isfinite().all():
            return False
        factors, marks = clip.weights(norms, names, present)
        sums.add_marks(marks)
        for parameter, column in self._column.items():
            if parameter in self._stored:
                sums.add_rows(parameter, self._stored.pop(parameter), factors[:, column])
            elif parameter in self._late:
                sums.add(parameter, self._late.pop(parameter)(factors[:, column]))
        return True

    def _choose(self, work: Work) -> Method:
        if self._budget.method is not None:
            return self._budget.method
        values = work.direct_bytes // 4
        made = work.direct + _MAKE * values + _PATIENT * len(self._squares)
        price: dict[Method, int] = {"drop": made + work.weighted}
        if work.direct_bytes <= min(self._room, self._budget.gradient_bytes // 4):
            price["store"] = made + _ADD * values
        if work.ghost_bytes <= self._budget.map_bytes:
            price["ghost"] = _GRAM * work.ghost + work.weighted
        return min(price, key=lambda method: price[method])


def _one_by_one(
    rule: Rule, inputs: Tensor, outputs: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns squared norms, and their doubt, from gradients of which one is held at a time."""
    rows = zip(torch.split(inputs, 1), torch.split(outputs, 1), strict=True)
    squares = torch.cat([squared_norms(rule.gradients(*row, weight)) for row in rows])
    reach = weight[0, 0].numel() if weight.dim() > 2 else 1  # patches that one pixel is part of
    floats = inputs if inputs.is_floating_point() else torch.ones_like(inputs, dtype=weight.dtype)
    return squares, reach * squared_norms(floats) * squared_norms(outputs)

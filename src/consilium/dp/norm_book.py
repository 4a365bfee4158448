# SPDX-License-Identifier: Apache-2.0
"""What a backward pass writes down about a microbatch of patients, to add them up clipped.

During the backward pass every layer enters its part of each patient's squared norm, and what
is needed to add up the patients afterwards: their gradients (`store`), or the layer's inputs
and output gradients (`ghost`, whose norm comes from Gram matrices, and `drop`, whose gradient
is made for its norm alone). When all parts are in, the clip factors are known, and each
parameter is added up once.

A weight that is made of parameters enters as they do: its patients' gradients are taken back
through what made it, before their norm.

Guarantees: nothing is added unless every entry of every patient is finite. A norm counts at
least what rounding could have hidden from it (`layer_rules`). Gradients are added in float64,
except those of one microbatch by one contraction.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

import torch
from torch import Tensor

from consilium.dp.clip_kinds import Clip
from consilium.dp.layer_rules import Rule, Squares, Work, squared_norms
from consilium.dp.sums import Sums

Method: TypeAlias = Literal["store", "ghost", "drop"]

_TAKEN_BACK: Final = 1 << 18  # values of gradients that go back through a made weight at once
_SLICE_BYTES: Final = 1 << 22  # of the patients' gradients that are made for their norms alone
# Prices in multiplications of a large product, which takes 0.01 ns each on the CPUs measured.
_MAKE: Final = 20  # to write a value of a patient's gradient and square it
_ADD: Final = 60  # to add a value of a patient's gradient to the sum
_CALL: Final = 3_000_000  # to call the library
_GRAM: Final = 3  # to multiply once in Gram matrices


class Unrouted(Exception):
    """A trained parameter is used in a way that has no rule; the message names both."""


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
    gradient_bytes: int = 1 << 26
    records: int | None = None
    method: Method | None = None


@final
class NormBook:
    """One microbatch's entries, and the parameters that may have some."""

    def __init__(self, names: Mapping[Tensor, str], patients: int, budget: Budget) -> None:
        first = next(iter(names))
        self.names = names
        self.anchor = first.new_zeros((), requires_grad=True)  # input of every layer that enters
        self._budget = budget
        self._room = budget.gradient_bytes
        self._uses = dict.fromkeys(names, 0)
        self._column = {parameter: column for column, parameter in enumerate(names)}
        sizes = (patients, len(names))
        self._squares = torch.zeros(sizes, dtype=torch.float64, device=first.device)
        self._doubt = torch.zeros_like(self._squares)
        self._stored: dict[Tensor, Tensor] = {}
        self._late: dict[Tensor, Callable[[Tensor], Tensor]] = {}
        self._sources: dict[Tensor, tuple[Tensor, ...]] = {}
        self._again: list[_Again] = []
        self._suspects: dict[Tensor, str] = {}

    def holds(self, value: Tensor) -> bool:
        """Whether a value is a trained parameter, or known to be made of some."""
        return value in self.names or value in self._sources

    def named(self, value: Tensor) -> str:
        """Returns which parameter a value is, or is made of, for a message."""
        return f"parameter {self.names[self._behind(value)[0]]!r}"

    def note(self, made: Tensor, of: Iterable[Tensor]) -> None:
        """Notes in the forward pass that a value is made of parameters, and of nothing else."""
        self._sources[made] = tuple(dict.fromkeys(one for part in of for one in self._behind(part)))

    def suspect(self, values: Iterable[Tensor], function: str) -> None:
        """Notes that a function without a rule was given parameters along with patients."""
        for value in values:
            self._suspects.update(dict.fromkeys(self._behind(value), function))

    def user(self, parameter: Tensor) -> str:
        """Returns which function without a rule used a parameter, for a message."""
        return self._suspects.get(parameter, "what has no rule")

    def announce(self, weight: Tensor) -> None:
        """Notes in the forward pass that a layer uses a trained parameter, or one made of it."""
        for parameter in self._behind(weight):
            self._uses[parameter] += 1

    def store(self, weight: Tensor, gradients: Tensor) -> None:
        """Enters the patients' gradients (patients, *shape); those of several uses add up."""
        if not self.holds(weight):
            return
        sources = self._sources.get(weight)
        parts = taken_back(weight, sources, gradients) if sources else {weight: gradients}
        for parameter, part in parts.items():
            before = self._stored.get(parameter)
            self._stored[parameter] = part if before is None else before + part

    def enter(self, parameter: Tensor, rule: Rule, inputs: Tensor, outputs: Tensor) -> None:
        """Enters one use of a weight, in the form that is cheapest within the budget."""
        if parameter in self._sources:
            self._enter_made(parameter, rule, inputs, outputs)
            return
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
            squares, doubt = _Slices(rule, inputs, outputs, weight).squares()
        self._squares[:, self._column[parameter]] += squares
        self._doubt[:, self._column[parameter]] += doubt
        self._late[parameter] = lambda factors: rule.weighted(inputs, outputs, weight, factors)

    def settle(self, sums: Sums, clip: Clip, present: Tensor) -> bool:
        """Adds every patient who is present (patients,), clipped; or adds nothing: False.

        False: a gradient, or the square of its norm, is not finite.
        """
        names = list(self.names.values())
        norms = self._norms(clip, names)
        if not norms.isfinite().all():
            return False
        factors, marks = clip.weights(norms, names, present)
        sums.add_marks(marks)
        for parameter, column in self._column.items():
            if parameter in self._stored:
                sums.add_rows(parameter, self._stored.pop(parameter), factors[:, column])
            elif parameter in self._late:
                sums.add(parameter, self._late.pop(parameter)(factors[:, column]))
        for again in self._again:
            for part, by in zip(again(), torch.split(factors, again.patients), strict=True):
                for parameter, gradients in part.items():
                    sums.add_rows(parameter, gradients, by[:, self._column[parameter]])
        return True

    def _norms(self, clip: Clip, names: Sequence[str]) -> Tensor:
        """Returns the norms of each part (patients, parts), float64, as large as they may be."""
        squares = self._squares.clone()
        for parameter, gradients in self._stored.items():
            squares[:, self._column[parameter]] += squared_norms(gradients)
        for again in self._again:
            for part, rows in zip(again(), torch.split(squares, again.patients), strict=True):
                for parameter, gradients in part.items():
                    rows[:, self._column[parameter]] += squared_norms(gradients)
        epsilon = 2 * max(torch.finfo(parameter.dtype).eps for parameter in self.names)
        summed, doubt = clip.gathered(squares, names), clip.gathered(self._doubt, names)
        return (summed + epsilon * doubt).sqrt() + epsilon * doubt.sqrt()

    # -- Weights that are made of parameters

    def _behind(self, value: Tensor) -> tuple[Tensor, ...]:
        return self._sources.get(value) or (value,)

    def _enter_made(self, made: Tensor, rule: Rule, inputs: Tensor, outputs: Tensor) -> None:
        """Enters one use: gradients that are held, or made twice a few patients at a time.

        Twice the same, and not by Gram matrices: how a norm's rounding grows on its way back
        to the parameters is not known.
        """
        weight = made.detach()
        size = rule.work(inputs, outputs, weight).direct_bytes
        shared = any(self._uses[parameter] > 1 for parameter in self._sources[made])
        if shared or self._budget.method == "store" or self._has_room(size):
            self._room -= size
            self.store(made, rule.gradients(inputs, outputs, weight))
            return
        slices = _Slices(rule, inputs, outputs, weight)
        self._again.append(_Again(slices, made, self._sources[made]))

    # -- Which form

    def _has_room(self, size: int) -> bool:
        allowed = self._budget.method is None
        return allowed and size <= min(self._room, self._budget.gradient_bytes // 4)

    def _choose(self, work: Work) -> Method:
        if self._budget.method is not None:
            return self._budget.method
        values = work.direct_bytes // 4
        made = work.direct + _MAKE * values + _CALL * work.calls
        price: dict[Method, int] = {"drop": made + work.weighted}
        if self._has_room(work.direct_bytes):
            price["store"] = made + _ADD * values
        if work.ghost_bytes <= self._budget.map_bytes:
            price["ghost"] = _GRAM * work.ghost + work.weighted
        return min(price, key=lambda method: price[method])


# -- Gradients that are held a few patients at a time ---------------------------------


@final
@dataclass(frozen=True, slots=True)
class _Slices:
    """One use of a weight, a few patients at a time, whose gradients fit `_SLICE_BYTES`."""

    rule: Rule
    inputs: Tensor
    outputs: Tensor
    weight: Tensor

    @property
    def patients(self) -> int:
        """How many are in a slice; the last may have fewer."""
        return max(1, _SLICE_BYTES // self.weight.nbytes)

    def gradients(self) -> Iterator[Tensor]:
        """Yields the gradients (patients, *shape) of each slice, the same whenever asked."""
        lefts, rights = (torch.split(part, self.patients) for part in (self.inputs, self.outputs))
        for left, right in zip(lefts, rights, strict=True):
            yield self.rule.gradients(left, right, self.weight)

    def squares(self) -> Squares:
        """Returns the squared norms of all patients' gradients, and their doubt."""
        squares = torch.cat([squared_norms(gradients) for gradients in self.gradients()])
        weight, inputs = self.weight, self.inputs
        reach = weight[0, 0].numel() if weight.dim() > 2 else 1  # patches that a pixel is part of
        floats = (
            inputs if inputs.is_floating_point() else torch.ones_like(inputs, dtype=weight.dtype)
        )
        return squares, reach * squared_norms(floats) * squared_norms(self.outputs)


@final
@dataclass(frozen=True, slots=True)
class _Again:
    """One use of a weight that is made of parameters, whose gradients are made at every call."""

    slices: _Slices
    made: Tensor
    sources: tuple[Tensor, ...]

    @property
    def patients(self) -> int:
        """How many are in a slice; the last may have fewer."""
        return self.slices.patients

    def __call__(self) -> Iterator[dict[Tensor, Tensor]]:
        """Yields each slice's gradients by parameter."""
        for gradients in self.slices.gradients():
            yield taken_back(self.made, self.sources, gradients)


def taken_back(
    weight: Tensor, sources: tuple[Tensor, ...], gradients: Tensor
) -> dict[Tensor, Tensor]:
    """Returns gradients (patients, *weight.shape) by the parameters that the weight is made of."""
    rows = torch.split(gradients.to(weight.dtype), max(1, _TAKEN_BACK // weight.numel()))
    parts = [
        torch.autograd.grad(
            weight, sources, part, retain_graph=True, allow_unused=True, is_grads_batched=True
        )
        for part in rows
    ]
    columns = zip(sources, zip(*parts, strict=True), strict=True)
    return {source: torch.cat(found) for source, found in columns if found[0] is not None}

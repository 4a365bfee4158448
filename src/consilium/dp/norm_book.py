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
from consilium.dp.layer_rules import Rule, Work, squared_norms
from consilium.dp.sums import Sums

Method: TypeAlias = Literal["store", "ghost", "drop"]

_TAKEN_BACK: Final = 1 << 18  # values of gradients that go back through a made weight at once
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
        map_bytes: Of the largest map of a microbatch, and of the Gram matrices of one layer.
        gradient_bytes: Of the patients' gradients that are held at once.
        records: At most so many in a microbatch; None leaves it to `map_bytes`.
        method: For every layer, or None: the cheapest for each.
    """

    map_bytes: int = 1 << 26
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
        self._stored: dict[Tensor, list[Tensor]] = {}  # a few patients' gradients in each
        self._late: dict[Tensor, Callable[[Tensor], Tensor]] = {}
        self._sources: dict[Tensor, tuple[Tensor, ...]] = {}
        self._again: list[_Again] = []

    def holds(self, value: Tensor) -> bool:
        """Whether a value is a trained parameter, or known to be made of some."""
        return value in self.names or value in self._sources

    def behind(self, value: Tensor) -> tuple[Tensor, ...]:
        """Returns the parameters that a value is made of: itself, if it is one."""
        return self._sources.get(value) or (value,)

    def named(self, value: Tensor) -> str:
        """Returns which parameter a value is, or is made of, for a message."""
        return f"parameter {self.names[self.behind(value)[0]]!r}"

    def note(self, made: Tensor, of: Iterable[Tensor]) -> None:
        """Notes in the forward pass that a value is made of parameters, and of nothing else."""
        self._sources[made] = tuple(dict.fromkeys(one for part in of for one in self.behind(part)))

    def announce(self, weight: Tensor) -> None:
        """Notes in the forward pass that a layer uses a trained parameter, or one made of it."""
        for parameter in self.behind(weight):
            self._uses[parameter] += 1

    def store(self, weight: Tensor, gradients: Iterable[Tensor]) -> None:
        """Enters the patients' gradients, (few, *shape) at a time; several uses add up."""
        if not self.holds(weight):
            return
        slices = [self._by_parameter(weight, part) for part in gradients]
        for parameter in slices[0]:
            found = [part[parameter] for part in slices]
            before = self._stored.get(parameter)
            self._stored[parameter] = found if before is None else _added(before, found)

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
            squares = _squares(rule.gradients(inputs, outputs, weight))
            doubt = _doubt(inputs, outputs, weight)
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
            for part, by in again(factors):
                for parameter, gradients in part.items():
                    sums.add_rows(parameter, [gradients], by[:, self._column[parameter]])
        return True

    def _norms(self, clip: Clip, names: Sequence[str]) -> Tensor:
        """Returns the norms of each part (patients, parts), float64, as large as they may be."""
        squares = self._squares.clone()
        for parameter, gradients in self._stored.items():
            squares[:, self._column[parameter]] += _squares(gradients)
        for again in self._again:
            for part, rows in again(squares):
                for parameter, made in part.items():
                    rows[:, self._column[parameter]] += squared_norms(made)
        epsilon = 2 * max(torch.finfo(parameter.dtype).eps for parameter in self.names)
        summed, doubt = clip.gathered(squares, names), clip.gathered(self._doubt, names)
        return (summed + epsilon * doubt).sqrt() + epsilon * doubt.sqrt()

    # -- Weights that are made of parameters

    def _by_parameter(self, weight: Tensor, gradients: Tensor) -> dict[Tensor, Tensor]:
        sources = self._sources.get(weight)
        return taken_back(weight, sources, gradients) if sources else {weight: gradients}

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
        self._again.append(_Again(rule, inputs, outputs, made, self._sources[made]))

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


# -- Gradients of a few patients at a time --------------------------------------------


def _squares(gradients: Iterable[Tensor]) -> Tensor:
    return torch.cat([squared_norms(part) for part in gradients])


def _added(first: Sequence[Tensor], second: Sequence[Tensor]) -> list[Tensor]:
    return [torch.cat([*first]) + torch.cat([*second])]


def _doubt(inputs: Tensor, outputs: Tensor, weight: Tensor) -> Tensor:
    """Returns the doubt of squared norms (patients,) of gradients that are made directly."""
    reach = weight[0, 0].numel() if weight.dim() > 2 else 1  # patches that one pixel is part of
    floats = inputs if inputs.is_floating_point() else torch.ones_like(inputs, dtype=weight.dtype)
    return reach * squared_norms(floats) * squared_norms(outputs)


@final
@dataclass(frozen=True, slots=True)
class _Again:
    """One use of a weight that is made of parameters, whose gradients are made at every call."""

    rule: Rule
    inputs: Tensor
    outputs: Tensor
    made: Tensor
    sources: tuple[Tensor, ...]

    def __call__(self, rows: Tensor) -> Iterator[tuple[dict[Tensor, Tensor], Tensor]]:
        """Yields a few patients' gradients by parameter, the same at every call, and their rows."""
        start = 0
        for gradients in self.rule.gradients(self.inputs, self.outputs, self.made.detach()):
            end = start + len(gradients)
            yield taken_back(self.made, self.sources, gradients), rows[start:end]
            start = end


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

# SPDX-License-Identifier: Apache-2.0
"""The sum over patients of their clipped gradients, as it grows.

Guarantees: gradients are added in float64, except those that one contraction has added before.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final, final

import torch
from torch import Tensor

from consilium.dp.layer_rules import squared_norms

_PIECE: Final = 1 << 16  # values that are widened to float64 at once: they stay in the cache
_CLEARLY: Final = 0.999  # of a bound; a norm below that is below it, whatever rounding hides


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
        if marks:
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

    def add_rows(self, parameter: Tensor, parts: Sequence[Tensor], factors: Tensor) -> None:
        """Adds the sum of rows times factors (patients,), float64; some (few, ...) a part."""
        total = parameter.new_zeros(parameter.numel(), dtype=torch.float64)
        for part, by in zip(parts, torch.split(factors, list(map(len, parts))), strict=True):
            width = max(1, _PIECE // max(1, len(part)))
            places = torch.split(total, width)
            for place, piece in zip(places, torch.split(part.flatten(1), width, 1), strict=True):
                place.addmv_(piece.T.double(), by)
        self.add(parameter, total)

    def add_marks(self, marks: Tensor) -> None:
        """Adds the sum of marks (patients, 0 or more), float64."""
        if self._marks.numel():
            self.add(self._marks, marks.sum(0))

    def merge(self, together: Callable[[Tensor], Tensor]) -> None:
        """Puts in the place of all parts what `together` makes of them in one, float64."""
        sizes = [parameter.numel() for parameter in self._parts]
        whole = self._marks.new_zeros(sum(sizes))
        for (parameter, part), place in zip(
            self._parts.items(), torch.split(whole, sizes), strict=True
        ):
            if part is not None:
                place.copy_(part)
            self._parts[parameter] = None
        self._parts.update(zip(self._parts, torch.split(together(whole), sizes), strict=True))

    def bounded(self, most: float, dtype: torch.dtype) -> Tensor:
        """Returns the sum (dimension + marks,), scaled back to norm `most` if it is above."""
        scale = self._scale(most)
        first = next(iter(self._parts))
        vector = first.new_empty(sum(p.numel() for p in self._parts), dtype=dtype)
        places = torch.split(vector, [parameter.numel() for parameter in self._parts])
        for place, part in zip(places, self._parts.values(), strict=True):
            if part is None:
                place.zero_()
            else:
                place.copy_(part if scale == 1.0 else part.double() * scale)
        return vector

    def _scale(self, most: float) -> float:
        """Returns what brings the norm to `most` if it is above; exact where it matters."""
        parts = [part for part in self._parts.values() if part is not None]
        if math.sqrt(sum(float(squared_norms(part[None])) for part in parts)) < _CLEARLY * most:
            return 1.0
        norm = math.sqrt(sum(_squares(part) for part in parts))
        return most / norm if norm > most else 1.0

    def _widened(self, parameter: Tensor, before: Tensor | None) -> Tensor:
        if before is None:
            before = torch.zeros_like(parameter, dtype=torch.float64).view(-1)
        total = before.double()
        self._parts[parameter] = total
        return total


def _squares(part: Tensor) -> float:
    return sum(float(piece.double().square().sum()) for piece in torch.split(part, _PIECE))

# SPDX-License-Identifier: Apache-2.0
"""Per-patient weight gradients of single layers: themselves, their norms, their weighted sum.

A layer that multiplies has, for each patient, a gradient that is a sum over places of an
outer product: of the patch that the weight saw there and the output gradient that came back.
So its norm follows from two Gram matrices, without the gradient; and the clipped sum over
patients is one ordinary weight gradient whose output gradients bear the clip factors.

Guarantees: `squares` is accurate to a few roundings of `doubt`, the square of the sum over
places of |patch| |output gradient|. Where a gradient is what is left of large terms that
cancel, `doubt` is far above its square: the caller adds it, so that a clipped norm is a bound
however the rounding fell.

Not here: which form is used where, and when (`bookkeeping`).
Source: Goodfellow 2015 (arXiv:1510.01799v2) for products; Gram matrices as in Li et al. 2022,
section 4 (arXiv:2110.05679v6), here of pixels, so that no convolution unfolds its input.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, final

import torch
import torch.nn.functional as F  # noqa: N812 - the name that readers of PyTorch know
from torch import Tensor

# How many patients' gradients are one call of the library's, as measured on CPUs. A call for
# each is slow for small maps and kernels, which the library leaves to its plainest code; one for
# all is slow where the groups are many.
_AT_ONCE: Final = 1 << 17  # values of their larger map
_MOST_AT_ONCE: Final = 16
_LARGE_MAP: Final = 1 << 14  # values of one patient's, above which a call takes only that one
_LARGE_KERNEL: Final = 1 << 18  # values, above which it does so too
_FEW_BYTES: Final = 1 << 22  # of patients' gradients that are made at once, by other rules
_PIECE: Final = 1 << 12  # values whose squares are added in their own precision

Squares: TypeAlias = tuple[Tensor, Tensor]  # squares of norms and their doubt, (patients,) float64


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What each form costs for one use of a layer: multiplications, and bytes that are held."""

    direct: int
    direct_bytes: int
    ghost: int
    ghost_bytes: int
    weighted: int
    calls: int = 1  # of the library, for the direct form


class Rule(Protocol):
    """A layer's weight gradient, for inputs and output gradients of (patients, ...)."""

    def gradients(self, inputs: Tensor, outputs: Tensor, weight: Tensor) -> Iterator[Tensor]:
        """Yields the patients' gradients in order, (few, *weight.shape) at a time."""
        ...

    def squares(self, inputs: Tensor, outputs: Tensor, weight: Tensor) -> Squares:
        """Returns the squared norms of the gradients, and their doubt."""
        ...

    def weighted(self, inputs: Tensor, outputs: Tensor, weight: Tensor, by: Tensor) -> Tensor:
        """Returns the sum of the gradients times `by` (patients,), shape of the weight."""
        ...

    def work(self, inputs: Tensor, outputs: Tensor, weight: Tensor) -> Work:
        """Returns what the three above cost, from shapes alone."""
        ...


def squared_norms(gradients: Tensor) -> Tensor:
    """Returns the squared norm of each row (rows, ...), float64.

    Guarantees: relative error below 1e-6; a row whose squares overflow is not finite.
    """
    rows = gradients.reshape(len(gradients), -1)
    whole = rows.shape[1] // _PIECE * _PIECE
    parts = torch.linalg.vector_norm(rows[:, :whole].reshape(len(rows), -1, _PIECE), dim=2)
    rest = torch.linalg.vector_norm(rows[:, whole:], dim=1)
    total: Tensor = parts.double().square().sum(1) + rest.double().square()
    return total


# -- Products: linear layers ----------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Product:
    """outputs = inputs @ weight.T, with any number of places between patient and features."""

    def gradients(self, inputs: Tensor, outputs: Tensor, weight: Tensor) -> Iterator[Tensor]:
        """Yields the patients' gradients in order, (few, *weight.shape) at a time."""
        for left, right in _in_slices(inputs, outputs, _few(weight)):
            yield torch.bmm(_places(right).mT, _places(left))

    def squares(self, inputs: Tensor, outputs: Tensor, weight: Tensor) -> Squares:
        """Returns the squared norms of the gradients, and their doubt."""
        del weight
        left, right = _places(_wide(inputs)), _places(_wide(outputs))
        if left.shape[1] == 1:
            exact = squared_norms(left) * squared_norms(right)
            return exact, exact
        return _paired(torch.bmm(left, left.mT)[:, None], torch.bmm(right, right.mT)[:, None])

    def weighted(self, inputs: Tensor, outputs: Tensor, weight: Tensor, by: Tensor) -> Tensor:
        """Returns the sum of the gradients times `by` (patients,), shape of the weight."""
        del weight
        return _places(_scaled(outputs, by)).flatten(0, 1).T @ _places(inputs).flatten(0, 1)

    def work(self, inputs: Tensor, outputs: Tensor, weight: Tensor) -> Work:
        """Returns what the three above cost, from shapes alone."""
        patients = max(1, len(inputs))
        places = outputs.numel() // (patients * weight.shape[0])
        direct = patients * places * weight.numel()
        ghost = patients * places**2 * sum(weight.shape) if places > 1 else 0
        return Work(
            direct=direct,
            direct_bytes=patients * weight.nbytes,
            ghost=ghost,
            ghost_bytes=2 * patients * places**2 * weight.itemsize if places > 1 else 0,
            weighted=direct,
        )


# -- Look-ups: embeddings -------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class LookUp:
    """outputs = weight[inputs]; rows of number `padding` are never trained."""

    padding: int | None

    def gradients(self, inputs: Tensor, outputs: Tensor, weight: Tensor) -> Iterator[Tensor]:
        """Yields the patients' gradients in order, (few, *weight.shape) at a time."""
        for left, right in _in_slices(inputs, outputs, _few(weight)):
            found = right.new_zeros(len(left), *weight.shape)
            index = left.flatten(1)
            owner = torch.arange(len(index), device=index.device)[:, None].expand_as(index)
            values = self._trained(left, right).flatten(0, 1)
            yield found.index_put_((owner.flatten(), index.flatten()), values, accumulate=True)

    def squares(self, inputs: Tensor, outputs: Tensor, weight: Tensor) -> Squares:
        """Returns the squared norms of the gradients, and their doubt."""
        del weight
        index, values = inputs.flatten(1), self._trained(inputs, _wide(outputs))
        same = (index[:, :, None] == index[:, None, :]).to(values.dtype)
        return _paired(same[:, None], torch.bmm(values, values.mT)[:, None])

    def weighted(self, inputs: Tensor, outputs: Tensor, weight: Tensor, by: Tensor) -> Tensor:
        """Returns the sum of the gradients times `by` (patients,), shape of the weight."""
        values = self._trained(inputs, _scaled(outputs, by)).flatten(0, 1)
        return values.new_zeros(weight.shape).index_add_(0, inputs.flatten(), values)

    def work(self, inputs: Tensor, outputs: Tensor, weight: Tensor) -> Work:
        """Returns what the three above cost, from shapes alone."""
        patients = max(1, len(inputs))
        places = outputs.numel() // (patients * weight.shape[1])
        return Work(
            direct=patients * weight.numel(),
            direct_bytes=patients * weight.nbytes,
            ghost=patients * places**2 * weight.shape[1],
            ghost_bytes=2 * patients * places**2 * weight.itemsize,
            weighted=weight.numel(),
        )

    def _trained(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        values = _places(outputs)
        if self.padding is None:
            return values
        return values * (inputs.flatten(1) != self.padding)[:, :, None]


# -- Convolutions ---------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """A convolution in any number of directions, forward or transposed, over rows of patients.

    A transposed convolution is the same sum with input and output gradient exchanged: `fine`
    is the map that patches are cut from, `coarse` the one with a value for each patch.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...]
    groups: int
    transposed: bool

    def forward(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Returns the output of rows (n, channels, *places)."""
        found: Tensor = torch.ops.aten.convolution(inputs, weight, bias, *self._arguments())
        return found

    def input_gradient(self, outputs: Tensor, inputs: Tensor, weight: Tensor) -> Tensor:
        """Returns the gradient by rows `inputs` for output gradients of the same rows."""
        mask = [True, False, False]
        found: Tensor = torch.ops.aten.convolution_backward(
            outputs, inputs, weight, None, *self._arguments(), mask
        )[0]
        return found

    def gradients(self, inputs: Tensor, outputs: Tensor, weight: Tensor) -> Iterator[Tensor]:
        """Yields the patients' gradients in order, (few, *weight.shape) at a time.

        A few patients are one convolution of the library's, whose groups are theirs.
        """
        count = self._at_once(inputs, outputs, weight)
        for left, right in _in_slices(inputs, outputs, count):
            yield self._side_by_side(left, right, weight)

    def weighted(self, inputs: Tensor, outputs: Tensor, weight: Tensor, by: Tensor) -> Tensor:
        """Returns the sum of the gradients times `by` (patients,), shape of the weight."""
        return self._library(inputs.flatten(0, 1), _scaled(outputs, by).flatten(0, 1), weight)

    def squares(self, inputs: Tensor, outputs: Tensor, weight: Tensor) -> Squares:
        """Returns the squared norms of the gradients, and their doubt.

        The Gram matrix of patches is that of pixels, summed along the kernel's offsets:
        <patch s, patch t> = sum over d of <pixel (s + d), pixel (t + d)>.
        """
        fine, coarse = self._roles(_wide(inputs), _wide(outputs))
        directions = len(self.stride)
        fine_gram, coarse_gram = self._gram(fine), self._gram(coarse)
        margins = [side for pad in reversed(self.padding * 2) for side in (pad, pad)]
        summed = F.pad(fine_gram, margins) if any(margins) else fine_gram
        for axis, kernel in enumerate(weight.shape[2:]):
            reach = (coarse.shape[3 + axis] - 1) * self.stride[axis] + 1
            shifted = []
            for offset in range(0, kernel * self.dilation[axis], self.dilation[axis]):
                index = [slice(None)] * summed.dim()
                index[1 + axis] = slice(offset, offset + reach, self.stride[axis])
                index[1 + axis + directions] = index[1 + axis]
                shifted.append(summed[tuple(index)])
            summed = sum(shifted[1:], shifted[0])
        rows = inputs.shape[:2]
        return _paired(self._square(summed, rows), self._square(coarse_gram, rows))

    def work(self, inputs: Tensor, outputs: Tensor, weight: Tensor) -> Work:
        """Returns what the three above cost, from shapes alone."""
        fine, coarse = self._roles(inputs, outputs)
        patients, rows = inputs.shape[:2]
        pixels, places = (math.prod(maps.shape[3:]) for maps in (fine, coarse))
        offsets = math.prod(weight.shape[2:])
        direct = patients * rows * places * weight.numel()
        pairs = patients * rows * rows
        summing = self.groups * offsets * places**2
        return Work(
            direct=direct,
            direct_bytes=patients * weight.nbytes,
            ghost=pairs * (pixels**2 * fine.shape[2] + places**2 * coarse.shape[2] + summing),
            ghost_bytes=3 * pairs * self.groups * max(pixels, places) ** 2 * weight.itemsize,
            weighted=direct,
            calls=math.ceil(patients / self._at_once(inputs, outputs, weight)),
        )

    def _arguments(self) -> tuple[object, ...]:
        return (
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding,
            self.groups,
        )

    def _roles(self, inputs: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
        return (outputs, inputs) if self.transposed else (inputs, outputs)

    def _library(self, inputs: Tensor, outputs: Tensor, weight: Tensor) -> Tensor:
        """Returns the weight gradient of all rows together, by the library's own kernel."""
        return self._weight_gradient(inputs, outputs, weight, self.groups)

    def _side_by_side(self, inputs: Tensor, outputs: Tensor, weight: Tensor) -> Tensor:
        """Returns the gradients of a few patients: their channels lie next to each other."""
        patients = len(inputs)
        left, right = (maps.transpose(0, 1).flatten(1, 2) for maps in (inputs, outputs))
        shape = (patients * weight.shape[0], *weight.shape[1:])
        form = weight.new_empty(1).expand(shape)  # of which nothing but the shape matters
        found = self._weight_gradient(left, right, form, patients * self.groups)
        return found.reshape(patients, *weight.shape)

    def _weight_gradient(
        self, inputs: Tensor, outputs: Tensor, weight: Tensor, groups: int
    ) -> Tensor:
        mask = [False, True, False]
        arguments = (*self._arguments()[:-1], groups)
        found: Tensor = torch.ops.aten.convolution_backward(
            outputs, inputs, weight, None, *arguments, mask
        )[1]
        return found

    def _at_once(self, inputs: Tensor, outputs: Tensor, weight: Tensor) -> int:
        """Returns how many patients one call takes."""
        entering, leaving = (max(1, maps[:1].numel()) for maps in (inputs, outputs))
        large = entering > _LARGE_MAP or (leaving > _LARGE_MAP and max(weight.shape[2:]) > 3)
        if large or weight.numel() > _LARGE_KERNEL:
            return 1
        return max(1, min(_MOST_AT_ONCE, _AT_ONCE // max(entering, leaving)))

    # -- Gram matrices

    def _gram(self, maps: Tensor) -> Tensor:
        """Returns inner products of pixels: (patients * groups * rows * rows, *map, *map)."""
        patients, rows, channels, *sides = maps.shape
        pixels = math.prod(sides)
        grouped = maps.reshape(patients, rows, self.groups, channels // self.groups, pixels)
        flat = grouped.permute(0, 2, 1, 4, 3).reshape(patients * self.groups, rows * pixels, -1)
        gram = torch.bmm(flat, flat.mT).view(-1, rows, pixels, rows, pixels)
        return gram.transpose(2, 3).reshape(-1, *sides, *sides)

    def _square(self, gram: Tensor, shape: torch.Size) -> Tensor:
        """Returns the same as matrices: (patients, groups, rows * places, rows * places)."""
        patients, rows = shape
        places = math.isqrt(gram[0].numel())
        parted = gram.reshape(patients, self.groups, rows, rows, places, places)
        return parted.transpose(3, 4).reshape(patients, self.groups, rows * places, rows * places)


# -- Shared ---------------------------------------------------------------------------


def _few(weight: Tensor) -> int:
    return max(1, _FEW_BYTES // weight.nbytes)


def _in_slices(inputs: Tensor, outputs: Tensor, patients: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields both for a few patients at a time."""
    yield from zip(torch.split(inputs, patients), torch.split(outputs, patients), strict=True)


def _wide(values: Tensor) -> Tensor:
    """Returns the values, never in half precision: norms and sums are not taken in it."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def _places(values: Tensor) -> Tensor:
    """Returns (patients, places, features) of (patients, *any, features)."""
    return values.reshape(len(values), -1, values.shape[-1])


def _scaled(outputs: Tensor, by: Tensor) -> Tensor:
    return outputs * by.to(outputs.dtype).view(-1, *[1] * (outputs.dim() - 1))


def _paired(left: Tensor, right: Tensor) -> Squares:
    """Returns the sum of products of two Gram matrices (patients, groups, n, n), and its doubt."""
    squares = (left * right).sum((2, 3)).double().clamp(min=0).sum(1)
    sizes = [gram.diagonal(dim1=2, dim2=3).clamp(min=0).sqrt() for gram in (left, right)]
    doubt = (sizes[0] * sizes[1]).sum(2).double().square().sum(1)
    return squares, doubt

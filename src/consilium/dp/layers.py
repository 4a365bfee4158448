# SPDX-License-Identifier: Apache-2.0
"""Layers as functions of all patients at once, whose backward pass keeps patients apart.

Each class is one use of a layer in one forward pass. Its backward pass returns the gradient of
the inputs, as autograd would, and enters those of weight and bias in a `NormBook`, patient by
patient. Inputs and output gradients have the axis of patients first.

Guarantees: parameters' gradients are taken in the precision of the parameters, whatever that
of the inputs: under autocast a norm is not one of half precision.
"""

from dataclasses import dataclass
from typing import Protocol, TypeAlias, final

import torch
import torch.nn.functional as F  # noqa: N812 - the name that readers of PyTorch know
from torch import Tensor

from consilium.dp.layer_rules import Convolution, LookUp, Product
from consilium.dp.norm_book import NormBook

Saved: TypeAlias = tuple[Tensor, ...]


class Layer(Protocol):
    """One use of a layer: a function of inputs (patients, ...), and its backward pass."""

    def forward(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Saved]:
        """Returns the output, and what else the backward pass needs."""
        ...

    def backward(self, outputs: Tensor, saved: Saved, *, needed: bool) -> Tensor | None:
        """Enters the parameters' gradients; returns the inputs' for `outputs`, if needed."""
        ...


@final
@dataclass(frozen=True, slots=True)
class Use:
    """What every use of a layer knows: where to enter, and for which parameters."""

    book: NormBook
    weight: Tensor
    bias: Tensor | None


def _as_is(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Returns the values in another shape, not marked as a view: the model may write on them."""
    found: Tensor = torch.ops.aten._unsafe_view(values, shape)
    return found


@final
@dataclass(frozen=True, slots=True)
class ConvolutionLayer:
    """A convolution of any kind."""

    use: Use
    rule: Convolution

    def forward(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Saved]:
        """Returns the output, and what the backward pass needs."""
        output = self.rule.forward(inputs.flatten(0, 1), weight, bias)
        return _as_is(output, (*inputs.shape[:2], *output.shape[1:])), (inputs, weight)

    def backward(self, outputs: Tensor, saved: Saved, *, needed: bool) -> Tensor | None:
        """Enters the parameters' gradients; returns the inputs', if needed."""
        inputs, weight = saved
        gradient = None
        if needed:
            gradient = self.rule.input_gradient(
                outputs.flatten(0, 1),
                inputs.flatten(0, 1).to(outputs.dtype),
                weight.to(outputs.dtype),
            ).view_as(inputs)
        wide = outputs.to(weight.dtype)
        self.use.book.enter(self.use.weight, self.rule, inputs.to(weight.dtype), wide)
        if self.use.bias is not None:
            self.use.book.store(self.use.bias, [wide.flatten(3).sum((1, 3))])
        return gradient


@final
@dataclass(frozen=True, slots=True)
class LinearLayer:
    """A linear layer, with any number of places between patients and features."""

    use: Use

    def forward(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Saved]:
        """Returns the output, and what the backward pass needs."""
        return F.linear(inputs, weight, bias), (inputs, weight)

    def backward(self, outputs: Tensor, saved: Saved, *, needed: bool) -> Tensor | None:
        """Enters the parameters' gradients; returns the inputs', if needed."""
        inputs, weight = saved
        gradient = outputs @ weight.to(outputs.dtype) if needed else None
        wide = outputs.to(weight.dtype)
        self.use.book.enter(self.use.weight, Product(), inputs.to(weight.dtype), wide)
        if self.use.bias is not None:
            self.use.book.store(self.use.bias, [wide.flatten(1, -2).sum(1)])
        return gradient


@final
@dataclass(frozen=True, slots=True)
class EmbeddingLayer:
    """Rows of a table."""

    use: Use
    padding: int | None

    def forward(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Saved]:
        """Returns the output, and what the backward pass needs."""
        del bias
        return F.embedding(inputs, weight, self.padding), (inputs,)

    def backward(self, outputs: Tensor, saved: Saved, *, needed: bool) -> Tensor | None:
        """Enters the parameters' gradients; returns the inputs', if needed."""
        del needed
        self.use.book.enter(self.use.weight, LookUp(self.padding), saved[0], outputs)
        return None


@final
@dataclass(frozen=True, slots=True)
class GroupNormLayer:
    """Instance norm too, which has a group for each channel.

    Rows and channels are handed to the library as the channels of one row: what it returns as
    the gradient of weight and bias is then each row's own.
    """

    use: Use
    groups: int
    epsilon: float

    def forward(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Saved]:
        """Returns the output, and what the backward pass needs."""
        maps = inputs.flatten(0, 1).to(weight.dtype).contiguous()
        sizes = (len(maps), maps.shape[1], maps[0, 0].numel(), self.groups)
        output, mean, scale = torch.ops.aten.native_group_norm(
            maps, weight, bias, *sizes, self.epsilon
        )
        return _as_is(output, inputs.shape), (maps, weight, mean, scale)

    def backward(self, outputs: Tensor, saved: Saved, *, needed: bool) -> Tensor | None:
        """Enters the parameters' gradients; returns the inputs', if needed."""
        maps, weight, mean, scale = saved
        count, channels = maps.shape[:2]
        one_row = [
            part.reshape(1, -1, *part.shape[2:])
            for part in (outputs.flatten(0, 1).contiguous(), maps, mean, scale)
        ]
        sizes = (1, count * channels, maps[0, 0].numel(), count * self.groups)
        gradient, by_weight, by_bias = torch.ops.aten.native_group_norm_backward(
            *one_row, weight.repeat(count), *sizes, [needed, True, True]
        )
        shape = (*outputs.shape[:2], channels)
        self.use.book.store(self.use.weight, [by_weight.view(shape).sum(1)])
        if self.use.bias is not None:
            self.use.book.store(self.use.bias, [by_bias.view(shape).sum(1)])
        return gradient.view_as(outputs) if needed else None


@final
@dataclass(frozen=True, slots=True)
class LayerNormLayer:
    """A layer norm."""

    use: Use
    shape: tuple[int, ...]
    epsilon: float

    def forward(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Saved]:
        """Returns the output, and what the backward pass needs."""
        values = inputs.to(weight.dtype)
        output, mean, scale = torch.native_layer_norm(
            values, self.shape, weight, bias, self.epsilon
        )
        return output, (values, weight, mean, scale)

    def backward(self, outputs: Tensor, saved: Saved, *, needed: bool) -> Tensor | None:
        """Enters the parameters' gradients; returns the inputs', if needed."""
        values, weight, mean, scale = saved
        gradient: Tensor | None = torch.ops.aten.native_layer_norm_backward(
            outputs, values, self.shape, mean, scale, weight, None, [needed, False, False]
        )[0]
        parts = (len(values), -1, *self.shape)
        normal = (values - mean) * scale
        self.use.book.store(self.use.weight, [(outputs * normal).reshape(parts).sum(1)])
        if self.use.bias is not None:
            self.use.book.store(self.use.bias, [outputs.reshape(parts).sum(1)])
        return gradient

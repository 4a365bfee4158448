# SPDX-License-Identifier: Apache-2.0
"""Sends the layers of a forward pass through functions that keep a patient's gradient apart.

While a `Router` is active in this thread, every call of a torch function that uses a trained
parameter is replaced by one whose backward pass returns the input's gradient only and enters
the weight's in a `NormBook`. The model is not touched, and other threads are not concerned.

The forward pass runs under `vmap` over patients. So which axis belongs to patients is known
and not guessed from shapes, and no layer can carry one patient's data into another's gradient.

A weight may be made of trained parameters before it is used, as a standardised one is, or a
third of a projection for attention: functions of parameters alone run as they are, and the
book takes a made weight's gradient back to what it was made of.

Guarantees: a use of a trained parameter that has no rule here raises `Unrouted`, or leaves a
gradient for that parameter itself, which the caller must look for: never silently wrong.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol, cast, final

import torch
import torch.nn.functional as F  # noqa: N812 - the name that readers of PyTorch know
from torch import Tensor
from torch.autograd import Function
from torch.overrides import TorchFunctionMode

from consilium.dp.attention import Attention
from consilium.dp.layer_rules import Convolution
from consilium.dp.layers import (
    ConvolutionLayer,
    EmbeddingLayer,
    GroupNormLayer,
    Layer,
    LayerNormLayer,
    LinearLayer,
    Saved,
    Use,
)
from consilium.dp.norm_book import NormBook, Unrouted

# -- Functions of autograd ------------------------------------------------------------


class _Context(Protocol):
    layer: Layer
    saved_tensors: Saved
    needs_input_grad: tuple[bool, ...]

    def save_for_backward(self, *tensors: Tensor) -> None: ...


@final
class _Entering(Function):
    """A layer over all patients of a microbatch; its backward returns the inputs' gradient."""

    @staticmethod
    def forward(
        ctx: _Context, layer: Layer, inputs: Tensor, anchor: Tensor, *rest: Tensor
    ) -> Tensor:
        """Returns the layer's output; `anchor` is what the backward pass is for."""
        del anchor
        weight, bias = rest
        output, saved = layer.forward(inputs, weight, bias)
        ctx.layer = layer
        ctx.save_for_backward(*saved)
        return output

    @staticmethod
    def backward(ctx: _Context, outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Returns the gradient by the inputs, and none by the parameters."""
        with torch.autocast(outputs.device.type, enabled=False):
            needed = ctx.needs_input_grad[1]
            gradient = ctx.layer.backward(outputs, ctx.saved_tensors, needed=needed)
        return None, gradient, None, None, None


@final
class _PerPatient(Function):
    """A layer of one patient: `vmap` turns it into the layer over all patients."""

    @staticmethod
    def forward(layer: Layer, inputs: Tensor, *rest: Tensor) -> Tensor:
        """Refuses: without a patient axis there is nothing to keep apart."""
        del inputs, rest
        raise Unrouted(f"{type(layer).__name__} is applied to a constant")

    @staticmethod
    def setup_context(ctx: _Context, inputs: tuple[object, ...], output: Tensor) -> None:
        """Keeps nothing: only the function over all patients is differentiated."""

    @staticmethod
    def vmap(
        info: object, in_dims: tuple[int | None, ...], layer: Layer, inputs: Tensor, *rest: Tensor
    ) -> tuple[Tensor, int]:
        """Returns the layer's output over all patients, who are its first axis."""
        del info
        if in_dims[1] is None or any(dim is not None for dim in in_dims[2:]):
            raise Unrouted(f"{type(layer).__name__} is applied to a constant, or by one")
        apply = cast("Callable[..., Tensor]", _Entering.apply)
        return apply(layer, inputs.movedim(in_dims[1], 0), *rest), 0


# -- Which function of torch becomes which layer --------------------------------------


@final
@dataclass(frozen=True, slots=True)
class _Call:
    """The arguments of one call, by the names that torch gives them."""

    given: Mapping[str, object]
    book: NormBook

    def tensor(self, name: str) -> Tensor | None:
        """Returns a tensor, or None where none was given."""
        return cast("Tensor | None", self.given.get(name))

    def number(self, name: str, default: float) -> float:
        """Returns a number."""
        return cast("float", self.given.get(name, default))

    def sides(self, name: str, default: int) -> tuple[int, ...]:
        """Returns one number for each direction of a kernel."""
        value = self.given.get(name, default)
        count = cast("Tensor", self.given["weight"]).dim() - 2
        if isinstance(value, int):
            return (value,) * count
        if isinstance(value, str):
            return self._named_padding(value)
        found = tuple(cast("tuple[int, ...]", value))
        return found * count if len(found) == 1 else found

    def _named_padding(self, value: str) -> tuple[int, ...]:
        kernel = cast("Tensor", self.given["weight"]).shape[2:]
        spread = zip(kernel, self.sides("dilation", 1), strict=True)
        missing = [(side - 1) * apart * (value == "same") for side, apart in spread]
        if any(total % 2 for total in missing):
            raise Unrouted("a convolution that pads one side more than the other")
        return tuple(total // 2 for total in missing)

    def use(self) -> Use:
        """Returns the parameters of the call."""
        return Use(self.book, cast("Tensor", self.tensor("weight")), self.tensor("bias"))


def _convolution(call: _Call, inputs: Tensor) -> Layer:
    if inputs.dim() != call.use().weight.dim():
        raise Unrouted("a convolution without an axis of rows")
    rule = Convolution(
        stride=call.sides("stride", 1),
        padding=call.sides("padding", 0),
        dilation=call.sides("dilation", 1),
        output_padding=call.sides("output_padding", 0),
        groups=int(call.number("groups", 1)),
        transposed="output_padding" in call.given,
    )
    return ConvolutionLayer(call.use(), rule)


def _linear(call: _Call, inputs: Tensor) -> Layer:
    del inputs
    return LinearLayer(call.use())


def _embedding(call: _Call, inputs: Tensor) -> Layer:
    del inputs
    given = call.given
    if any(given.get(name) for name in ("scale_grad_by_freq", "sparse")):
        raise Unrouted("an embedding that is sparse or scales its gradient")
    if given.get("max_norm") is not None:
        raise Unrouted("an embedding that changes its weight")
    padding = cast("int | None", given.get("padding_idx"))
    rows = len(call.use().weight)
    return EmbeddingLayer(call.use(), padding if padding is None else padding % rows)


def _group_norm(call: _Call, inputs: Tensor) -> Layer:
    del inputs
    groups = int(call.number("num_groups", 1))
    return GroupNormLayer(call.use(), groups, call.number("eps", 1e-5))


def _instance_norm(call: _Call, inputs: Tensor) -> Layer:
    if call.tensor("running_mean") is not None or not call.given.get("use_input_stats", True):
        raise Unrouted("an instance norm with statistics over records")
    return GroupNormLayer(call.use(), inputs.shape[1], call.number("eps", 1e-5))


def _layer_norm(call: _Call, inputs: Tensor) -> Layer:
    del inputs
    shape = tuple(cast("tuple[int, ...]", call.given["normalized_shape"]))
    return LayerNormLayer(call.use(), shape, call.number("eps", 1e-5))


@final
@dataclass(frozen=True, slots=True)
class _Route:
    names: tuple[str, ...]  # of the function's arguments, in order
    build: Callable[[_Call, Tensor], Layer]


_CONVOLUTION: Final = _Route(
    ("input", "weight", "bias", "stride", "padding", "dilation", "groups"), _convolution
)
_TRANSPOSED: Final = _Route(
    ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"),
    _convolution,
)
_ROUTES: Final[Mapping[object, _Route]] = {
    torch.conv1d: _CONVOLUTION,
    torch.conv2d: _CONVOLUTION,
    torch.conv3d: _CONVOLUTION,
    torch.conv_transpose1d: _TRANSPOSED,
    torch.conv_transpose2d: _TRANSPOSED,
    torch.conv_transpose3d: _TRANSPOSED,
    F.linear: _Route(("input", "weight", "bias"), _linear),
    F.embedding: _Route(
        (
            "input",
            "weight",
            "padding_idx",
            "max_norm",
            "norm_type",
            "scale_grad_by_freq",
            "sparse",
        ),
        _embedding,
    ),
    F.group_norm: _Route(("input", "num_groups", "weight", "bias", "eps"), _group_norm),
    F.instance_norm: _Route(
        (
            "input",
            "running_mean",
            "running_var",
            "weight",
            "bias",
            "use_input_stats",
            "momentum",
            "eps",
        ),
        _instance_norm,
    ),
    F.layer_norm: _Route(("input", "normalized_shape", "weight", "bias", "eps"), _layer_norm),
}


@final
class Router(TorchFunctionMode):
    """While active in a thread, sends that thread's uses of trained parameters to `book`."""

    def __init__(self, book: NormBook) -> None:
        super().__init__()
        self._book = book
        self._suspects: dict[Tensor, str] = {}

    def user(self, parameter: Tensor) -> str:
        """Returns which function without a rule used a parameter, for a message."""
        return self._suspects.get(parameter, "what has no rule")

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Iterable[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Returns what `func` returns, through a layer if it uses a trained parameter."""
        del types
        given = dict(kwargs or {})
        values = (*args, *given.values())
        used = self._used(values)
        if not used:
            return func(*args, **given)
        if func is F.multi_head_attention_forward:
            return self._attended(args, given)
        route = _ROUTES.get(func)
        if route is None:
            return self._made(func(*args, **given), func, used, values)
        given.update(zip(route.names, args, strict=False))
        return self._routed(route, _Call(given, self._book), used)

    def _routed(self, route: _Route, call: _Call, used: list[Tensor]) -> Tensor:
        if route is _TRANSPOSED:
            call = replace(call, given={"output_padding": 0, **call.given})
        inputs, weight, bias = (call.tensor(name) for name in ("input", "weight", "bias"))
        if inputs is None or weight is None:
            raise Unrouted(f"{self._book.named(used[0])} is used without input or weight")
        for one in (weight, bias):
            if one is not None and one.requires_grad and not self._book.holds(one):
                raise Unrouted(f"{self._book.named(used[0])} is used along with a made weight")
        layer = route.build(call, inputs)
        for parameter in used:
            self._book.announce(parameter)
        apply = cast("Callable[..., Tensor]", _PerPatient.apply)
        # detached: autograd must not walk into what made a weight, the book does that by itself
        return apply(layer, inputs, self._book.anchor, weight.detach(), _detached(bias))

    def _attended(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
        call = Attention(_ATTENTION.bind(*args, **kwargs).arguments)
        reason = call.unsupported()
        if reason is not None:
            raise Unrouted(reason)
        with self:
            return call()

    def _used(self, values: Iterable[object]) -> list[Tensor]:
        """Returns trained parameters and what is made of them, among arguments and in lists."""
        found = []
        for value in values:
            if isinstance(value, Tensor) and self._book.holds(value):
                found.append(value)
            elif isinstance(value, list | tuple):
                found += self._used(value)
        return found

    def _made(
        self,
        result: object,
        func: Callable[..., object],
        used: list[Tensor],
        values: Iterable[object],
    ) -> object:
        """Returns a result, noted as made of parameters where no patient is in it.

        One of patients may still be right, as where only a shape is used: whether it leaves a
        gradient for the parameter shows in the end.
        """
        if any(_is_of_patients(value) for value in values):
            name = getattr(func, "__name__", str(func))
            self._suspects.update((one, name) for part in used for one in self._book.behind(part))
            return result
        for part in result if isinstance(result, list | tuple) else [result]:
            if isinstance(part, Tensor) and part.requires_grad:
                self._book.note(part, used)
        return result


_ATTENTION: Final = inspect.signature(F.multi_head_attention_forward)


def _detached(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.detach()


def _is_of_patients(value: object) -> bool:
    """Whether a value differs between patients: `vmap` knows."""
    return isinstance(value, Tensor) and torch._C._functorch.is_batchedtensor(value)

# SPDX-License-Identifier: Apache-2.0
"""A trained network as a few plain layers in a row, read from its torch graph.

What is constant is folded: standardised weights, factors before and behind a convolution, a
ReLU before a maximum (it moves behind it, where there are fewer values). What normalises at run
time (GroupNorm), or is neither linear nor ReLU nor a maximum (tanh, ELU, moduli), is refused:
its cost under encryption is another class, and a silent stand-in would be another model.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias, final

import torch
import torch.nn.functional as F  # noqa: N812 - the name that readers of PyTorch know
from torch import Tensor, fx, nn

from consilium.errors import ConfigError
from consilium.learning.models.standardised_convolution import folded

Shape: TypeAlias = tuple[int, int, int]  # channels, height, width

# -- Layers ---------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A convolution, or with `flat` a product with the flattened (c, h, w) maps."""

    source: int
    weight: Tensor = field(repr=False)  # (outputs, inputs, height, width)
    bias: Tensor = field(repr=False)
    stride: int = 1
    padding: int = 0
    flat: bool = False


@final
@dataclass(frozen=True, slots=True)
class Relu:
    """max(0, x)."""

    source: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Maximum:
    """The largest of windows; zeros stand around, so that a ReLU must come before or behind."""

    source: int
    size: int
    stride: int
    before: int
    after: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Average:
    """The mean of windows of height times width that start at rows and columns."""

    source: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    height: int
    width: int


@final
@dataclass(frozen=True, slots=True)
class Scale:
    """Times a public number above zero."""

    source: int
    factor: float


@final
@dataclass(frozen=True, slots=True)
class Join:
    """Channels of all, one after the other."""

    sources: tuple[int, ...]


@final
@dataclass(frozen=True, slots=True)
class Sum:
    """left + right."""

    left: int
    right: int


Layer: TypeAlias = Linear | Relu | Maximum | Average | Scale | Join | Sum


@final
@dataclass(frozen=True, slots=True)
class Network:
    """Layers in order; layer k makes value k + 1, value 0 is the image (channels, h, w)."""

    image: Shape
    layers: tuple[Layer, ...]


def reads(layer: Layer) -> tuple[int, ...]:
    """Returns the values that a layer reads."""
    match layer:
        case Join():
            return layer.sources
        case Sum():
            return (layer.left, layer.right)
        case _:
            return (layer.source,)


def uses(network: Network) -> list[int]:
    """Returns how often each value is read."""
    count = [0] * (len(network.layers) + 1)
    for layer in network.layers:
        for source in reads(layer):
            count[source] += 1
    return count


def evaluate(network: Network, images: Tensor) -> list[Tensor]:
    """Returns every value, float64 maps (n, c, h, w), the images first."""
    values = [images.double()]
    for layer in network.layers:
        read = [values[k] for k in reads(layer)]
        values.append(apply(layer, read))
    return values


def apply(layer: Layer, read: list[Tensor]) -> Tensor:
    """Returns what `layer` makes of maps (n, c, h, w)."""
    first = read[0]
    match layer:
        case Linear() if layer.flat:
            weight = layer.weight.double().flatten(1)
            return F.linear(first.flatten(1), weight, layer.bias.double())[:, :, None, None]
        case Linear():
            weight, bias = layer.weight.double(), layer.bias.double()
            return F.conv2d(first, weight, bias, layer.stride, layer.padding)
        case Relu():
            return F.relu(first)
        case Maximum():
            edge = (layer.before, layer.after) * 2
            return F.max_pool2d(F.pad(first, edge), layer.size, layer.stride)
        case Average():
            down = [first[:, :, k : k + layer.height].mean(2) for k in layer.rows]
            tall = torch.stack(down, dim=2)
            across = [tall[:, :, :, k : k + layer.width].mean(3) for k in layer.columns]
            return torch.stack(across, dim=3)
        case Scale():
            return first * layer.factor
        case Join():
            return torch.cat(read, dim=1)
        case Sum():
            return first + read[1]


# -- Reading a model ------------------------------------------------------------------


def read_network(model: nn.Module, image: Shape) -> Network:
    """Returns the layers of `model` for images of (channels, height, width).

    Raises:
        ConfigError: The model does what cannot be computed on shares at a bearable cost.
    """
    try:
        traced = fx.symbolic_trace(folded(model).eval())
    except (RuntimeError, TypeError, fx.proxy.TraceError):
        raise _cannot(f"{type(model).__name__}, whose steps depend on its input") from None
    reader = _Reader(traced, image)
    for node in traced.graph.nodes:
        reader.take(node)
    return _moved(_without_needless(_absorbed(Network(image, tuple(reader.layers)))))


@final
class _Reader:
    """Turns the nodes of a graph into layers, one after the other."""

    def __init__(self, traced: fx.GraphModule, image: Shape) -> None:
        self._modules: Mapping[str, nn.Module] = dict(traced.named_modules())
        self._places: dict[fx.Node, int] = {}
        self._shapes: list[Shape] = [image]
        self._flat: set[fx.Node] = set()
        self.layers: list[Layer] = []

    def take(self, node: fx.Node) -> None:
        """Adds what `node` does."""
        if node.op == "placeholder":
            self._places[node] = 0
        elif node.op == "call_module":
            self._module(node, self._modules[str(node.target)])
        elif node.op in ("call_function", "call_method"):
            self._function(node, _name(node))
        elif node.op != "output":
            raise _cannot(f"{node.op} {node.target}")

    def _module(self, node: fx.Node, module: nn.Module) -> None:
        source = self._place(node.args[0])
        match module:
            case nn.Conv2d():
                self._add(node, _convolution(source, module))
            case nn.Linear():
                self._linear(node, source, module)
            case nn.ReLU():
                self._add(node, Relu(source))
            case nn.MaxPool2d():
                self._maximum(node, source, module)
            case nn.AvgPool2d():
                size, stride = _one(module.kernel_size), _one(module.stride)
                if _one(module.padding):
                    raise _cannot("a padded average")
                _, h, w = self._shapes[source]
                rows, columns = (tuple(range(0, s - size + 1, stride)) for s in (h, w))
                self._average(node, source, rows, columns, (size, size))
            case nn.AdaptiveAvgPool2d():
                self._adaptive(node, source, module)
            case nn.Flatten() | nn.Identity():
                self._same(node, flat=isinstance(module, nn.Flatten))
            case _:
                raise _cannot(type(module).__name__)

    def _function(self, node: fx.Node, name: str) -> None:
        match name:
            case "relu":
                self._add(node, Relu(self._place(node.args[0])))
            case "cat":
                parts = node.args[0]
                if not isinstance(parts, list | tuple):
                    raise _cannot("a concatenation of this form")
                self._add(node, Join(tuple(self._place(part) for part in parts)))
            case "add":
                left, right = node.args[:2]
                self._add(node, Sum(self._place(left), self._place(right)))
            case "mul" | "truediv":
                self._scale(node, name)
            case "mean":
                source = self._place(node.args[0])
                _, h, w = self._shapes[source]
                self._average(node, source, (0,), (0,), (h, w))
                self._flat.add(node)
            case "flatten":
                self._same(node, flat=True)
            case _:
                raise _cannot(name)

    def _scale(self, node: fx.Node, name: str) -> None:
        left, right = node.args[:2]
        if isinstance(left, fx.Node) and isinstance(right, float | int):
            factor = float(right) if name == "mul" else 1 / float(right)
            self._add(node, Scale(self._place(left), factor))
        elif isinstance(right, fx.Node) and isinstance(left, float | int) and name == "mul":
            self._add(node, Scale(self._place(right), float(left)))
        else:
            raise _cannot("a product of two maps")

    def _linear(self, node: fx.Node, source: int, module: nn.Linear) -> None:
        c, h, w = self._shapes[source]
        if c * h * w != module.in_features:
            raise _cannot("a linear layer along one axis of maps")
        weight = module.weight.detach().reshape(-1, c, h, w)
        self._add(node, Linear(source=source, weight=weight, bias=_bias(module), flat=True))

    def _maximum(self, node: fx.Node, source: int, module: nn.MaxPool2d) -> None:
        size, stride, before = _one(module.kernel_size), _one(module.stride), _one(module.padding)
        side = self._shapes[source][1]
        if self._shapes[source][2] != side or _one(module.dilation) != 1:
            raise _cannot("a maximum of maps that are not square")
        after = before
        if module.ceil_mode:
            after += -(side + 2 * before - size) % stride
        self._add(
            node, Maximum(source=source, size=size, stride=stride, before=before, after=after)
        )

    def _adaptive(self, node: fx.Node, source: int, module: nn.AdaptiveAvgPool2d) -> None:
        (_, h, w), grid = self._shapes[source], _one(module.output_size)
        (rows, height), (columns, width) = (_windows(side, grid) for side in (h, w))
        self._average(node, source, rows, columns, (height, width))

    def _average(
        self,
        node: fx.Node,
        source: int,
        rows: tuple[int, ...],
        columns: tuple[int, ...],
        size: tuple[int, int],
    ) -> None:
        if size == (1, 1) and len(rows) * len(columns) == _area(self._shapes[source]):
            self._places[node] = source
            return
        layer = Average(source=source, rows=rows, columns=columns, height=size[0], width=size[1])
        self._add(node, layer)

    def _same(self, node: fx.Node, *, flat: bool) -> None:
        self._places[node] = self._place(node.args[0])
        if flat:
            self._flat.add(node)

    def _place(self, argument: object) -> int:
        if not isinstance(argument, fx.Node):
            raise _cannot("an operation on a constant")
        return self._places[argument]

    def _add(self, node: fx.Node, layer: Layer) -> None:
        read = [torch.zeros(1, *self._shapes[k], dtype=torch.float64) for k in reads(layer)]
        c, h, w = apply(layer, read).shape[1:]
        self.layers.append(layer)
        self._shapes.append((c, h, w))
        self._places[node] = len(self.layers)


def _name(node: fx.Node) -> str:
    if isinstance(node.target, str):
        return node.target
    names: Mapping[Callable[..., object], str] = {
        operator.add: "add",
        operator.mul: "mul",
        operator.truediv: "truediv",
        torch.add: "add",
        torch.mul: "mul",
    }
    return names.get(node.target) or str(getattr(node.target, "__name__", node.target))


def _convolution(source: int, module: nn.Conv2d) -> Linear:
    if module.groups != 1 or _one(module.dilation) != 1 or isinstance(module.padding, str):
        raise _cannot("a grouped or dilated convolution")
    return Linear(
        source=source,
        weight=module.weight.detach(),
        bias=_bias(module),
        stride=_one(module.stride),
        padding=_one(module.padding),
    )


def _bias(module: nn.Conv2d | nn.Linear) -> Tensor:
    if module.bias is None:
        return torch.zeros(len(module.weight))
    return module.bias.detach()


def _one(value: object) -> int:
    """Returns the one number of a square setting."""
    several = value if isinstance(value, tuple) else (value,)
    if len(set(several)) != 1 or not isinstance(several[0], int):
        raise _cannot(f"a setting that is not square, {value}")
    return several[0]


def _windows(side: int, grid: int) -> tuple[tuple[int, ...], int]:
    """Returns starts and size of the windows of an adaptive average."""
    starts = tuple(k * side // grid for k in range(grid))
    sizes = {-(-(k + 1) * side // grid) - start for k, start in enumerate(starts)}
    if len(sizes) != 1:
        raise _cannot(f"an average of {side} pixels to {grid} by windows of several sizes")
    return starts, sizes.pop()


def _area(shape: Shape) -> int:
    return shape[1] * shape[2]


def _cannot(what: str) -> ConfigError:
    return ConfigError(
        f"the model has {what}, which is not computed on shares; expected convolutions, linear "
        "layers, ReLU, maxima, averages and sums: train squeezenet-average, nf-resnet, vgg11 "
        "or small-cnn-relu, or give the model to the patient's device"
    )


# -- Rewriting ------------------------------------------------------------------------

_POSITIVE: Final = "factors above zero"


def _absorbed(network: Network) -> Network:
    """Returns the network with every `Scale` of a convolution that nobody else reads in it."""
    count, layers = uses(network), list(network.layers)
    for number, layer in enumerate(layers):
        if not isinstance(layer, Scale):
            continue
        if layer.factor <= 0:
            raise _cannot(f"a factor of {layer.factor} where only {_POSITIVE} move freely")
        before = layers[layer.source - 1] if layer.source else None
        if isinstance(before, Linear) and count[layer.source] == 1:
            weight, bias = before.weight * layer.factor, before.bias * layer.factor
            layers[layer.source - 1] = replace(before, weight=weight, bias=bias)
            layers[number] = Scale(layer.source, 1.0)
    return Network(network.image, tuple(layers))


def _without_needless(network: Network) -> Network:
    """Returns the network with a ReLU of values that are never negative as a factor of one."""
    layers, positive = list(network.layers), [False]
    for number, layer in enumerate(layers):
        kept = [positive[k] for k in reads(layer)]
        if isinstance(layer, Relu) and kept[0]:
            layers[number] = Scale(layer.source, 1.0)
        positive.append(isinstance(layer, Relu) or (not isinstance(layer, Linear) and all(kept)))
    return Network(network.image, tuple(layers))


def _moved(network: Network) -> Network:
    """Returns the network with each ReLU whose only reader is a maximum behind it.

    Raises:
        ConfigError: A maximum of maps that no ReLU made.
    """
    count, layers = uses(network), list(network.layers)
    for number, layer in enumerate(layers):
        if not isinstance(layer, Maximum):
            continue
        before = layers[layer.source - 1] if layer.source else None
        if not isinstance(before, Relu) or count[layer.source] != 1:
            raise _cannot("a maximum that does not follow a ReLU of its own")
        layers[layer.source - 1] = replace(layer, source=before.source)
        layers[number] = Relu(layer.source)
    return Network(network.image, tuple(layers))

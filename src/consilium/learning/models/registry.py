# SPDX-License-Identifier: Apache-2.0
"""The models by name: what a project file may ask for, built with public initial weights.

A seed decides initial weights only. It is public, part of the experiment's record, and has
nothing to do with privacy noise; the global random generators stay as they are.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias, final

import torch
from torch import Tensor, nn

from consilium.errors import ConfigError
from consilium.learning.models.jets import jets
from consilium.learning.models.logistic import Logistic
from consilium.learning.models.monet import LEAST_SIDE as MONET_LEAST_SIDE
from consilium.learning.models.monet import SIDES as MONET_SIDES
from consilium.learning.models.monet import MoNet
from consilium.learning.models.nf_resnet import nf_resnet, nf_resnet18
from consilium.learning.models.resnet import resnet
from consilium.learning.models.small_cnn import SmallCnn
from consilium.learning.models.squeezenet import SqueezeNet
from consilium.learning.models.unet import SIDES, unet
from consilium.learning.models.vgg import VGG11, VGG16, vgg
from consilium.learning.models.wavelet import wavelet
from consilium.learning.models.wavelet_pyramid import SMALLEST, wavelet_pyramid

Shape: TypeAlias = tuple[
    int, ...
]  # of one record: (channels, [depth,] height, width) or (features,)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    make: Callable[[Shape, int], nn.Module]
    least_side: int | None  # pixels; None takes images of any size and tables
    maps: bool = False  # a logit for every pixel, rather than one a record
    sides: int = 1  # height and width (and depth) are multiples of this
    volumes: bool = False  # records are volumes, rather than pictures


_MODELS: Final[Mapping[str, _Model]] = {
    "small-cnn": _Model(make=SmallCnn, least_side=8),
    "small-cnn-relu": _Model(make=partial(SmallCnn, activation=nn.ReLU), least_side=8),
    "squeezenet": _Model(make=SqueezeNet, least_side=32),
    "squeezenet-average": _Model(make=partial(SqueezeNet, average=True), least_side=32),
    "nf-resnet": _Model(make=nf_resnet, least_side=28),
    "nf-resnet18": _Model(make=nf_resnet18, least_side=32),
    "resnet18": _Model(make=partial(resnet, blocks=(2, 2, 2, 2), bottleneck=False), least_side=16),
    "resnet50": _Model(make=partial(resnet, blocks=(3, 4, 6, 3), bottleneck=True), least_side=16),
    "vgg11": _Model(make=partial(vgg, stages=VGG11, normalised=False), least_side=32),
    "vgg11-gn": _Model(make=partial(vgg, stages=VGG11, normalised=True), least_side=32),
    "vgg16": _Model(make=partial(vgg, stages=VGG16, normalised=False), least_side=32),
    "vgg16-gn": _Model(make=partial(vgg, stages=VGG16, normalised=True), least_side=32),
    "wavelet": _Model(make=partial(wavelet, angles=8, second_order=False), least_side=8),
    "wavelet-second-order": _Model(
        make=partial(wavelet, angles=4, second_order=True), least_side=8
    ),
    "wavelet-pyramid": _Model(make=wavelet_pyramid, least_side=SMALLEST),
    "logistic": _Model(make=Logistic, least_side=None),
    "jets": _Model(make=jets, least_side=SIDES, maps=True, sides=2),
    "monet": _Model(make=MoNet, least_side=MONET_LEAST_SIDE, maps=True, sides=MONET_SIDES),
    "unet": _Model(make=partial(unet, width=16), least_side=SIDES, maps=True, sides=SIDES),
    "unet-small": _Model(make=partial(unet, width=4), least_side=SIDES, maps=True, sides=SIDES),
    "unet3d": _Model(
        make=partial(unet, width=16), least_side=SIDES, maps=True, sides=SIDES, volumes=True
    ),
    "unet3d-small": _Model(
        make=partial(unet, width=4), least_side=SIDES, maps=True, sides=SIDES, volumes=True
    ),
}
NAMES: Final = tuple(_MODELS)
RECORD_NAMES: Final = tuple(name for name, model in _MODELS.items() if not model.maps)
MAP_NAMES: Final = tuple(name for name, model in _MODELS.items() if model.maps)

# -- Building -------------------------------------------------------------------------


def build(
    name: str, *, shape: Shape, classes: int, seed: int, label_maps: bool = False
) -> nn.Module:
    """Returns the model `name` for records of `shape`, one logit a class.

    Args:
        name: One of `NAMES`.
        shape: Of one record: (channels, height, width) with 1 or 3 channels, the same with a
            depth after the channels, or (features,).
        classes: How many, at least 2.
        seed: Of the initial weights, public.
        label_maps: The labels are maps, so that every pixel has its logits.

    Guarantees: the same arguments give the same weights; global random state is unchanged.

    Raises:
        ConfigError: No such model, a shape or labels that it cannot take, or fewer than two
            classes.

    >>> build("logistic", shape=(13,), classes=2, seed=0)(torch.zeros(4, 13)).shape
    torch.Size([4, 2])
    """
    model = _find(name)
    _check_maps(name, model, label_maps=label_maps)
    _check_shape(name, shape, model)
    _check_sides(name, shape, model.sides)
    if classes < 2:
        raise ConfigError(f"{classes=}, expected 2 or more; count every class of the labels")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return model.make(shape, classes)


def _find(name: str) -> _Model:
    if name not in _MODELS:
        nearest = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.0)[0]
        raise ConfigError(
            f"model {name!r} does not exist, expected one of {', '.join(NAMES)}; "
            f"did you mean {nearest!r}?"
        )
    return _MODELS[name]


def _check_maps(name: str, model: _Model, *, label_maps: bool) -> None:
    if model.maps == label_maps:
        return
    fitting = ", ".join(known for known, other in _MODELS.items() if other.maps == label_maps)
    what = "one label a record" if model.maps else "label maps"
    raise ConfigError(f"model {name!r} was asked for {what}; expected one of {fitting}: use one")


def _check_sides(name: str, shape: Shape, sides: int) -> None:
    if any(side % sides for side in shape[1:]):
        raise ConfigError(
            f"model {name!r} was asked for records of shape {shape}, expected sides "
            f"that are multiples of {sides}; pad the images and their label maps"
        )


def _check_shape(name: str, shape: Shape, model: _Model) -> None:
    found = f"model {name!r} was asked for records of shape {shape}, expected "
    if model.least_side is None:
        if len(shape) not in (1, 3, 4) or min(shape) < 1:
            raise ConfigError(f"{found}(features,) or (channels, height, width); reshape them")
        return
    if model.volumes and len(shape) != 4:
        raise ConfigError(f"{found}volumes (channels, depth, height, width); import with --depth")
    if not model.volumes and len(shape) == 4:
        raise ConfigError(f"{found}images, not volumes; import without --depth, or use 'unet3d'")
    if not model.volumes and len(shape) != 3:
        raise ConfigError(f"{found}images (channels, height, width); use 'logistic' for tables")
    if shape[0] not in (1, 3):
        raise ConfigError(f"{found}1 or 3 channels; convert the images to grey or RGB")
    if min(shape[1:]) < model.least_side:
        raise ConfigError(
            f"{found}{model.least_side} pixels or more; raise image_size or use another"
        )


# -- Summary --------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One row of a summary: a layer that contains no other."""

    name: str
    kind: str
    output_shape: Shape | None  # of one record; None where no input shape was given
    parameters: int


@final
@dataclass(frozen=True, slots=True)
class Summary:
    """The layers in order of definition, and the number of parameters of all together."""

    layers: tuple[Layer, ...]
    total: int


def summary(model: nn.Module, shape: Shape | None = None) -> Summary:
    """Returns the layers of `model`; with the shape of a record also their output shapes."""
    outputs = {} if shape is None else _output_shapes(model, shape)
    layers = tuple(
        Layer(
            name=name,
            kind=type(layer).__name__,
            output_shape=outputs.get(name),
            parameters=sum(parameter.numel() for parameter in layer.parameters()),
        )
        for name, layer in model.named_modules()
        if not any(layer.children())
    )
    return Summary(layers, sum(parameter.numel() for parameter in model.parameters()))


def _output_shapes(model: nn.Module, shape: Shape) -> dict[str, Shape]:
    """Runs one record of zeros through `model` and notes what each layer gives back."""
    shapes: dict[str, Shape] = {}

    def note(name: str, _layer: nn.Module, _inputs: object, output: Tensor) -> None:
        shapes[name] = tuple(output.shape[1:])

    hooks = [
        layer.register_forward_hook(partial(note, name)) for name, layer in model.named_modules()
    ]
    try:
        with torch.inference_mode():
            model(torch.zeros(1, *shape))
    finally:
        for hook in hooks:
            hook.remove()
    return shapes

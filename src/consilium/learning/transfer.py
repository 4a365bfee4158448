# SPDX-License-Identifier: Apache-2.0
"""Weights from another training: which of them fit a model, and which of its own are trained.

Frozen parameters are constants: they are not in the vector that crosses sites, so they get no
noise and stay as they are, bit for bit, and the noise falls on fewer numbers.

Not here: files and their digests (`adapters.pretrained`). What a file of weights was learnt from
is not this project's guarantee: weights that were trained on a patient's data without noise may
give that patient away.

Source: Zaken et al. 2022 for biases alone (arXiv:2106.10199v5); Bu et al. 2024 for their use
under differential privacy (arXiv:2210.00036v4), norms added.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, final

import torch
from torch import Tensor, nn

from consilium.errors import ConfigError, DataError

Size: TypeAlias = tuple[int, ...]

ALL: Final = "all"
HEAD: Final = "head"
BIASES: Final = "biases-and-norms"
FROM: Final = "from:"
KINDS: Final = (ALL, HEAD, BIASES, f"{FROM}LAYER")

_NORMS: Final = (
    nn.GroupNorm,
    nn.LayerNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
)
_AFFINE: Final = ("bias", "gain")  # the latter is a standardised convolution's


# -- Which weights fit ----------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting:
    """What became of each key of a file and of each parameter of a model.

    Attributes:
        fit: Taken as they are.
        summed: Weights of a first layer for colours, summed over them for grey images.
        reshaped: Of another shape in the file: (key, found, expected); the model's own stay.
        missing: Parameters that the file lacks; the model's own stay.
        unused: Keys of the file that the model has no place for.
    """

    fit: tuple[str, ...]
    summed: tuple[str, ...]
    reshaped: tuple[tuple[str, Size, Size], ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def fresh(self) -> tuple[str, ...]:
        """The parameters that the file did not give."""
        return (*self.missing, *(key for key, _, _ in self.reshaped))

    def lines(self) -> tuple[str, ...]:
        """Returns a report for people, one line for each kind that there is."""
        sizes = [f"{key} {found}, expected {wanted}" for key, found, wanted in self.reshaped]
        kinds = {
            "fit": list(self.fit),
            "fit, summed over colours for grey images": list(self.summed),
            "have another shape and start anew": sizes,
            "are not in the file and start anew": list(self.missing),
            "of the file are not used": list(self.unused),
        }
        return tuple(
            f"{len(names)} {kind}: {_shortened(names)}" for kind, names in kinds.items() if names
        )


def fit_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> Fitting:
    """Copies what fits of `weights` into `model`, by name and shape, and says what did.

    Guarantees: a grey image gives a first convolution with summed weights what the same image as
        three equal colours gives the original. Nothing is copied when this raises.

    Raises:
        DataError: A weight that fits is not of floating point, or not finite.
        ConfigError: Nothing fits.
    """
    own = dict(model.named_parameters())
    plain = {key: weights[key] for key in own if key in weights}
    fit = {key: value for key, value in plain.items() if value.shape == own[key].shape}
    summed = {
        key: value.sum(dim=1, keepdim=True)
        for key, value in plain.items()
        if key not in fit and _of_colours(value, own[key])
    }
    if not fit and not summed:
        raise ConfigError(
            f"no weight of the file fits the model; expected keys such as {_shortened(list(own))}, "
            f"found {_shortened(list(weights))}: name weights of the same network"
        )
    chosen = fit | summed
    _check_values(chosen)
    with torch.no_grad():
        for key, value in chosen.items():
            own[key].copy_(value)
    return Fitting(
        fit=tuple(fit),
        summed=tuple(summed),
        reshaped=tuple(
            (key, tuple(plain[key].shape), tuple(own[key].shape))
            for key in plain
            if key not in chosen
        ),
        missing=tuple(key for key in own if key not in plain),
        unused=tuple(key for key in weights if key not in own),
    )


def _of_colours(found: Tensor, own: Tensor) -> bool:
    grey = own.ndim == found.ndim == 4 and (found.shape[1], own.shape[1]) == (3, 1)
    return grey and found.sum(dim=1, keepdim=True).shape == own.shape


def _check_values(chosen: Mapping[str, Tensor]) -> None:
    for key, value in chosen.items():
        if not value.is_floating_point() or not bool(value.isfinite().all()):
            raise DataError(
                f"weight {key!r} of the file is {value.dtype} or not finite; expected finite "
                "floating point: save the model's weights again"
            )


def _shortened(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


# -- Which parameters are trained -----------------------------------------------------


def train_only(model: nn.Module, which: str) -> None:
    """Freezes every parameter of `model` but those that `which` names.

    | which | trained |
    |---|---|
    | "all" | every parameter |
    | "head" | the last layer: a linear probe |
    | "biases-and-norms" | biases, the affine values of normalisations, and the last layer |
    | "from:LAYER" | that layer and every one after it, in order of definition |

    Raises:
        ConfigError: No such word, or no such layer.
    """
    names = _trained(model, which)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)


def check_frozen(model: nn.Module, fitting: Fitting) -> None:
    """Returns only if every frozen parameter came from the file.

    Raises:
        ConfigError: One did not: it would stay random.
    """
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    lost = [name for name in fitting.fresh if name in frozen]
    if lost:
        raise ConfigError(
            f"model.train freezes {_shortened(lost)}, which the file of weights does not give; "
            "expected every frozen parameter in it: train more layers, or use weights of this "
            "network for images of this size"
        )


def _trained(model: nn.Module, which: str) -> set[str]:
    names = [name for name, _ in model.named_parameters()]
    if which == ALL:
        return set(names)
    last = names[-1].rpartition(".")[0]
    head = {name for name in names if name.rpartition(".")[0] == last}
    if which == HEAD:
        return head
    if which == BIASES:
        return head | {name for name in names if _bias_or_norm(model, name)}
    if which.startswith(FROM):
        return set(names[_first_of(model, which.removeprefix(FROM), names) :])
    raise ConfigError(f"model.train is {which!r}; expected one of {', '.join(KINDS)}")


def _bias_or_norm(model: nn.Module, name: str) -> bool:
    layer, _, own = name.rpartition(".")
    return own in _AFFINE or isinstance(model.get_submodule(layer), _NORMS)


def _first_of(model: nn.Module, layer: str, names: list[str]) -> int:
    inside = [place for place, name in enumerate(names) if name.startswith(f"{layer}.")]
    if not inside:
        known = [name for name, part in model.named_children() if list(part.parameters())]
        raise ConfigError(
            f"model.train names layer {layer!r}, which has no parameter in this model; expected "
            f"one of {', '.join(known)}, or a layer inside one"
        )
    return inside[0]

# SPDX-License-Identifier: Apache-2.0
"""A model whose layers use statistics over records, turned into one whose layers do not.

Every BatchNorm becomes a GroupNorm or an InstanceNorm, and every InstanceNorm loses its running
statistics. The new layers compute on one record alone, in training and in evaluation alike, so
the output for a record does not depend on what else is in its batch.

A converted model is another model: it keeps the affine parameters of the old layers, not their
running statistics, so a pretrained one needs training before it is as good as it was.
"""

import copy
from typing import Final, Literal, TypeAlias, get_args

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

Kind: TypeAlias = Literal["group", "layer", "instance"]

MOST_GROUPS: Final = 32

_Norm: TypeAlias = nn.GroupNorm | nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d
_INSTANCE: Final = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_RANK: Final[tuple[tuple[type[nn.Module], int], ...]] = (
    (nn.BatchNorm1d, 1),
    (nn.BatchNorm2d, 2),
    (nn.BatchNorm3d, 3),
    (nn.InstanceNorm1d, 1),
    (nn.InstanceNorm2d, 2),
    (nn.InstanceNorm3d, 3),
)


def converted(model: nn.Module, *, kind: Kind = "group") -> nn.Module:
    """Returns a copy of `model` without statistics over records.

    | layer | "group" | "layer" | "instance" |
    |---|---|---|---|
    | BatchNorm2d, 3d, SyncBatchNorm | GroupNorm, `groups` of them | GroupNorm, 1 | InstanceNorm |
    | BatchNorm1d | GroupNorm, 1 | GroupNorm, 1 | refused |
    | InstanceNorm with running statistics | the same without, whatever the kind | | |

    BatchNorm1d also normalises vectors, (n, channels), of which a group of one channel would
    leave nothing; InstanceNorm1d takes them for one record and mixes patients. SyncBatchNorm
    does not know its rank, and an InstanceNorm for it neither: it is refused for "instance".

    Args:
        model: Is not changed.
        kind: What every BatchNorm becomes.

    Guarantees: weight, bias, eps, device, dtype, requires_grad and training mode of a layer are
        those of the layer it replaces; a layer used in two places is converted once.

    Raises:
        ValueError: No such kind, a layer that has no counterpart, or a lazy one without a size.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"{kind=}; expected one of {get_args(Kind)}")
    clone = copy.deepcopy(model)
    made: dict[nn.Module, nn.Module] = {}
    for name, layer in list(clone.named_modules(remove_duplicate=False)):
        if isinstance(layer, _BatchNorm) or _keeps_statistics(layer):
            if layer not in made:
                made[layer] = _replacement(name, layer, kind)
            if not name:
                return made[layer]
            container, _, own = name.rpartition(".")
            setattr(clone.get_submodule(container), own, made[layer])
    return clone


def groups(channels: int) -> int:
    """Returns the largest divisor of `channels` that is at most 32."""
    return max(n for n in range(1, min(channels, MOST_GROUPS) + 1) if channels % n == 0)


def _keeps_statistics(layer: nn.Module) -> bool:
    return isinstance(layer, _InstanceNorm) and layer.track_running_stats


def _replacement(name: str, layer: nn.Module, kind: Kind) -> _Norm:
    assert isinstance(layer, _BatchNorm | _InstanceNorm)  # noqa: S101 - the caller looked
    rank = next((rank for type_, rank in _RANK if isinstance(layer, type_)), None)
    new = _normaliser(name, layer, kind, rank)
    for own in ("weight", "bias"):
        _copy_parameter(getattr(layer, own), new, own)
    return new.train(layer.training)


def _normaliser(
    name: str, layer: _BatchNorm | _InstanceNorm, kind: Kind, rank: int | None
) -> _Norm:
    channels, eps, affine = layer.num_features, layer.eps, layer.affine
    if isinstance(layer, _InstanceNorm) or kind == "instance":
        if rank is None or (rank == 1 and isinstance(layer, _BatchNorm)):
            raise ValueError(
                f"layer {name!r} is a {type(layer).__name__}, which has no InstanceNorm that keeps "
                'records apart for every input; expected kind="group" or kind="layer"'
            )
        return _INSTANCE[rank - 1](channels, eps=eps, affine=affine)
    count = 1 if kind == "layer" or rank == 1 else groups(channels)
    return nn.GroupNorm(count, channels, eps=eps, affine=affine)


def _copy_parameter(old: Tensor | None, layer: nn.Module, name: str) -> None:
    if old is not None:
        fresh = nn.Parameter(old.detach().clone(), requires_grad=old.requires_grad)
        setattr(layer, name, fresh)

# SPDX-License-Identifier: Apache-2.0
"""Which layers of a model break the privacy of single patients, by name and with the reason.

Clipping bounds what one patient adds to a sum only if that patient's gradient is a function
of that patient's records. A layer that computes or keeps statistics over a batch makes it a
function of everybody's. `check` finds such layers in two ways: by their kind, and, given the
shape of an input, by a probe that changes one record of a random batch and looks whether the
output of another record moves.

It promises nothing about a layer that mixes records only for inputs that the probe does not
try, or only while a gradient is computed. Clipping refuses what it finds by itself.
"""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final, TypeAlias, final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm

from consilium.errors import PrivacyError

_RECORDS: Final = 4  # of the probe; the first is changed
_CHANGE: Final = 10.0  # standard deviations, so that a mean over records moves visibly
_ROUNDING: Final = 1e-5  # of the largest output: what the rest of a batch may move by in float32

Shape: TypeAlias = tuple[int, ...]


class Severity(StrEnum):
    """What an offence does to the guarantee."""

    FORBIDDEN = "forbidden"  # it voids the guarantee; `require` refuses it
    NOTED = "noted"  # it is handled, or harmless under the condition that is named


@final
@dataclass(frozen=True, slots=True)
class Offence:
    """One layer and what is wrong with it.

    Attributes:
        layer: Dotted name in the model; "" is the model itself.
        kind: Name of its class.
        why: What it does, and what to do instead.
        severity: Whether the guarantee stands.
    """

    layer: str
    kind: str
    why: str
    severity: Severity

    def __str__(self) -> str:
        return f"{self.layer or 'the model itself'} ({self.kind}) {self.why}"


def check(model: nn.Module, input_shape: Shape | None = None) -> tuple[Offence, ...]:
    """Returns every offence of `model`, in the order of its layers.

    Args:
        model: In the mode in which it is to be trained. It is not changed.
        input_shape: Of one record, without the batch; None leaves the probe out.

    Guarantees: the probe sees random numbers only, no patient's data, and takes none of the
        global random number generator.

    Raises:
        ValueError: The model cannot compute on records of `input_shape`.
    """
    found = [*_by_kind(model), *_shared_parameters(model)]
    if input_shape is not None:
        known = {offence.layer for offence in found if offence.severity is Severity.FORBIDDEN}
        found += [each for each in _by_probe(model, input_shape) if each.layer not in known]
    order = {name: place for place, (name, _) in enumerate(model.named_modules())}
    return tuple(sorted(found, key=lambda offence: order[offence.layer]))


def require(model: nn.Module, input_shape: Shape | None = None) -> None:
    """Returns only if no layer of `model` voids the guarantee.

    Raises:
        PrivacyError: At least one does; the message names all of them.
        ValueError: The model cannot compute on records of `input_shape`.
    """
    bad = [each for each in check(model, input_shape) if each.severity is Severity.FORBIDDEN]
    if bad:
        raise PrivacyError(
            f"{len(bad)} of the model's layers mix or remember patients, expected none: "
            + "; ".join(map(str, bad))
        )


# -- By kind --------------------------------------------------------------------------


def _by_kind(model: nn.Module) -> Iterator[Offence]:
    for name, layer in model.named_modules():
        say = partial(Offence, name, type(layer).__name__)
        if isinstance(layer, _BatchNorm):
            if layer.training or not layer.track_running_stats:
                yield say(
                    "uses statistics over the records of a batch; convert it to GroupNorm "
                    "(dp.conversion), or freeze it with eval()",
                    Severity.FORBIDDEN,
                )
            else:
                yield say(_CONSTANTS, Severity.NOTED)
        elif isinstance(layer, _InstanceNorm) and layer.track_running_stats:
            if layer.training:
                yield say(
                    "keeps running statistics of records; convert it (dp.conversion) or build "
                    "it with track_running_stats=False",
                    Severity.FORBIDDEN,
                )
            else:
                yield say(_CONSTANTS, Severity.NOTED)
        elif isinstance(layer, _WRAPPERS):
            yield say(
                "averages the gradients of processes or devices before they are clipped; give "
                "the module inside it, and several processes as a team (dp.team)",
                Severity.FORBIDDEN,
            )
        elif isinstance(layer, _DropoutNd) and layer.training and layer.p > 0:
            yield say("is random while training; noise already regularises", Severity.NOTED)


_WRAPPERS: Final = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_CONSTANTS: Final = "uses its running statistics as constants; they must come from public data"


def _shared_parameters(model: nn.Module) -> Iterator[Offence]:
    owners: dict[nn.Parameter, list[str]] = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners[parameter].append(name)
    for names in owners.values():
        for name in names[1:]:
            layer, _, own = name.rpartition(".")
            yield Offence(
                layer,
                type(model.get_submodule(layer)).__name__,
                f"shares its {own} with {names[0]}; the gradient is that of all uses together",
                Severity.NOTED,
            )


# -- By probe -------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class _Call:
    """What one layer took and gave in one pass: the tensors with one row a record."""

    layer: str
    taken: tuple[Tensor, ...]
    given: tuple[Tensor, ...]


_Watch: TypeAlias = Callable[[_Call], Tensor | None]  # what it returns takes the output's place


def _by_probe(model: nn.Module, shape: Shape) -> Iterator[Offence]:
    """Yields the layers that mix: the other rows of what they take agree, of what they give not.

    The other rows of a mixing layer's output are put back, so that the next one is seen too.
    """
    random = torch.Generator().manual_seed(1)
    batch = torch.randn(_RECORDS, *shape, generator=random)
    changed = batch.clone()
    changed[0] = _CHANGE * torch.randn(shape, generator=random)
    calls: list[_Call] = []
    mixing: list[str] = []

    def compare(call: _Call) -> Tensor | None:
        place = len(seen)
        seen.append(call)
        before = calls[place] if place < len(calls) else call
        if before.layer != call.layer or not _others_agree(before.taken, call.taken):
            return None
        if _others_agree(before.given, call.given):
            return None
        mixing.append(call.layer)
        return _healed(before.given, call.given)

    seen: list[_Call] = []
    _pass(model, batch, calls.append)
    written = _pass(model, changed, compare)
    for name in written:
        layer, _, own = name.rpartition(".")
        yield _mixing(
            model, layer, f"writes to its buffer {own} in a forward pass; drop the buffer"
        )
    for layer in dict.fromkeys(mixing):
        if not any(other != layer and _inside(other, layer) for other in mixing):
            why = "lets one record change the output of another; compute on each record alone"
            yield _mixing(model, layer, why)


def _mixing(model: nn.Module, layer: str, why: str) -> Offence:
    return Offence(layer, type(model.get_submodule(layer)).__name__, why, Severity.FORBIDDEN)


def _inside(layer: str, container: str) -> bool:
    return not container or layer.startswith(f"{container}.")


def _healed(before: tuple[Tensor, ...], after: tuple[Tensor, ...]) -> Tensor | None:
    if len(before) != 1 or len(after) != 1 or before[0].shape != after[0].shape:
        return None
    return torch.cat([after[0][:1], before[0][1:]])


def _pass(model: nn.Module, batch: Tensor, watch: _Watch) -> list[str]:
    """Shows `watch` every call in a copy of `model`, and returns the buffers that it wrote."""
    probed = copy.deepcopy(model)

    def show(name: str, _: nn.Module, taken: tuple[object, ...], given: object) -> object:
        watched = watch(_Call(name, tuple(_tensors(taken)), tuple(_tensors(given))))
        return watched if isinstance(given, Tensor) else None

    for name, layer in probed.named_modules():
        layer.register_forward_hook(partial(show, name))
    like = next(probed.parameters(), batch)
    try:
        with torch.no_grad(), _same_random_numbers(like.device):
            probed(batch.to(like))
    except RuntimeError as error:
        raise ValueError(
            f"the model cannot compute on {_RECORDS} records of shape {tuple(batch.shape[1:])}: "
            f"{error}; expected the shape of one record, without the batch"
        ) from None
    after = dict(probed.named_buffers())
    return [n for n, value in model.named_buffers() if n not in after or _moved(value, after[n])]


@contextmanager
def _same_random_numbers(device: torch.device) -> Iterator[None]:
    """Lets dropout drop the same in every pass, and leaves the global generators as they were."""
    accelerators = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=accelerators):
        torch.default_generator.manual_seed(1)
        if accelerators:
            torch.cuda.manual_seed(1)
        yield


def _moved(before: Tensor, after: Tensor) -> bool:
    return not before.cpu().equal(after.cpu())


def _tensors(value: object) -> Iterator[Tensor]:
    """Yields copies of the tensors in `value` that have one row a record."""
    match value:
        case Tensor():
            if value.shape[:1] == (_RECORDS,):
                yield value.detach().clone()
        case Mapping():
            yield from _tensors(tuple(value.values()))
        case tuple() | list():
            for part in value:
                yield from _tensors(part)


def _others_agree(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> bool:
    """Returns whether all rows but the first are the same, up to the rounding of float32."""
    return len(first) == len(second) and all(map(_rows_agree, first, second))


def _rows_agree(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape:
        return False
    one, other = first[1:].double(), second[1:].double()
    moved = (one - other).abs().nan_to_num(torch.inf)
    moved[one.isnan() & other.isnan()] = 0
    scale = max(1e-12, float(one.abs().nan_to_num(0, 0, 0).amax())) if one.numel() else 1.0
    return not bool((moved > _ROUNDING * scale).any())

# SPDX-License-Identifier: Apache-2.0
"""What was done to the data, as bytes: one strict, canonical spelling of every event we price.

A ledger outlives the software that wrote it, so events are kept by a format of our own and never
by a library's class names. `decode_event(encode_event(e)) == e`; a second spelling of the same
event, an unknown kind, a missing or extra field and a number outside its range are refused.
Neighbours differ by one patient added or removed, with all records of that patient.
"""

import math
from typing import Final, TypeAlias

import msgspec
from dp_accounting.dp_event import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    LaplaceDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
    ZCDpEvent,
)

from consilium.errors import DataError, UnsupportedEvent

LARGEST: Final = 65_536  # bytes of an event
_DEEPEST: Final = 8  # events within events


class Gaussian(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="gaussian"):
    """A sum with Gaussian noise; `noise_multiplier` times the L2 sensitivity."""

    noise_multiplier: float


class Laplace(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="laplace"):
    """A sum with Laplace noise; `noise_multiplier` times the L1 sensitivity."""

    noise_multiplier: float


class Concentrated(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="zcdp"):
    """Anything of Renyi divergence at most xi + rho alpha at every order alpha."""

    rho: float
    xi: float


class Sampled(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="poisson-sampled"):
    """An event on patients who were drawn independently."""

    sampling_probability: float
    event: "Line"


class Repeated(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="repeated"):
    """One event several times."""

    event: "Line"
    count: int


class Together(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="together"):
    """Several events."""

    events: tuple["Line", ...]


Line: TypeAlias = Gaussian | Laplace | Concentrated | Sampled | Repeated | Together

_DECODER: Final = msgspec.json.Decoder(Line)


def encode_event(event: DpEvent) -> bytes:
    """Returns the only spelling of `event`.

    Raises:
        UnsupportedEvent: It is of a kind that the ledger does not keep.
        DataError: A number is outside its range.
    """
    line = _line(event)
    _check(line, _DEEPEST)
    return msgspec.json.encode(line)


def decode_event(data: bytes) -> DpEvent:
    """Returns the event in `data`.

    Raises:
        DataError: It is not the canonical spelling of an event.
    """
    if len(data) > LARGEST:
        raise DataError(f"an event of {len(data)} bytes; expected at most {LARGEST}: split it")
    try:
        line = _DECODER.decode(data)
        canonical = msgspec.json.encode(line) == data
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise DataError(f"an event that cannot be read ({type(error).__name__})") from None
    if not canonical:
        raise DataError("an event in a second spelling; expected the canonical one")
    _check(line, _DEEPEST)
    return _event(line)


def _line(event: DpEvent) -> Line:
    match event:
        case GaussianDpEvent():
            return Gaussian(float(event.noise_multiplier))
        case LaplaceDpEvent():
            return Laplace(float(event.noise_multiplier))
        case ZCDpEvent():
            return Concentrated(float(event.rho), float(event.xi))
        case PoissonSampledDpEvent():
            return Sampled(float(event.sampling_probability), _line(event.event))
        case SelfComposedDpEvent():
            return Repeated(_line(event.event), event.count)
        case ComposedDpEvent():
            return Together(tuple(_line(one) for one in event.events))
        case _:
            raise UnsupportedEvent(
                f"the ledger does not keep {type(event).__name__}; expected Gaussian, Laplace, "
                "zCDP, and Poisson samples or compositions of them: release it another way"
            )


def _event(line: Line) -> DpEvent:
    match line:
        case Gaussian(noise):
            return GaussianDpEvent(noise)
        case Laplace(noise):
            return LaplaceDpEvent(noise)
        case Concentrated(rho, xi):
            return ZCDpEvent(rho, xi)
        case Sampled(probability, inner):
            return PoissonSampledDpEvent(probability, _event(inner))
        case Repeated(inner, count):
            return SelfComposedDpEvent(_event(inner), count)
        case Together(events):
            return ComposedDpEvent([_event(one) for one in events])


def _check(line: Line, deepest: int) -> None:
    fits, inner = _range(line)
    if not fits or deepest == 0:
        raise DataError(
            f"{line} has a number out of its range, or is more than {_DEEPEST} deep; expected an "
            "event that can be priced"
        )
    for one in inner:
        _check(one, deepest - 1)


def _range(line: Line) -> tuple[bool, tuple[Line, ...]]:
    """Returns whether the numbers of `line` are within their ranges, and what is inside it."""
    match line:
        case Gaussian(noise) | Laplace(noise):
            return 0 < noise < math.inf, ()
        case Concentrated(rho, xi):
            return 0 <= rho < math.inf and 0 <= xi < math.inf, ()
        case Sampled(probability, event):
            return 0 < probability < 1, (event,)
        case Repeated(event, count):
            return 1 <= count < 2**31, (event,)
        case Together(events):
            return len(events) > 0, events

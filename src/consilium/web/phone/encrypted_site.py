# SPDX-License-Identifier: Apache-2.0
"""The phone page of the encrypted mode: two shares of the picture go to two operators.

There is no model in it and no WebAssembly. Guarantees: the page itself cannot reach the network;
its worker can reach the two operators' origins and nothing else, and holds no code that sends
anything but shares. What the page knows of the publication is fixed when it is made; operators
that describe it otherwise later are not asked.
"""

import re
from pathlib import Path
from typing import Any, Final, final

import msgspec

from consilium.adapters.inference.asking import Offered, Patient
from consilium.adapters.inference.kit import Address, Operators, read_operators
from consilium.errors import ConfigError
from consilium.web.phone.pages import PAGE, PhoneSite, assemble

_BUILT: Final = {
    PAGE: "encrypted.html",
    "app.js": "encrypted-app.js",
    "worker.js": "encrypted-worker.js",
}
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")


@final
class _Publication(msgspec.Struct, frozen=True, kw_only=True):
    """What the page knows; see docs/inference.md, "The format of shares"."""

    operators: tuple[str, str]
    publication: str
    card: dict[str, object]
    ring_bits: int
    image: tuple[int, int, int]
    image_fraction: int
    unit: float


def ask_and_make_site(public: Path, name: str | None) -> PhoneSite:
    """Returns the page for what the operators of the folder `public` offer under `name`.

    Raises:
        ConsiliumError: An operator does not answer, they disagree, or no one model fits.
    """
    patient = Patient(public)
    try:
        offered = patient.model(name)
    finally:
        patient.close()
    return make_encrypted_site(read_operators(public), offered)


def make_encrypted_site(operators: Operators, offered: Offered) -> PhoneSite:
    """Returns the page for one publication of two operators.

    Raises:
        ConfigError: Pictures of the model are not square, an operator's name is none, or the
            page's scripts were not made.
    """
    program = offered.program
    height, width, channels = program.image
    if height != width or channels not in (1, 3):
        raise ConfigError(
            f"model {offered.card.name} takes {height}x{width} of {channels} channels; expected a "
            "square in grey or colour: this page makes pictures square"
        )
    first, second = (_origin(one) for one in operators.computing)
    known = _Publication(
        operators=(first, second),
        publication=offered.publication,
        card=_told(offered.card),
        ring_bits=program.ring_bits,
        image=program.image,
        image_fraction=program.image_fraction,
        unit=program.unit,
    )
    added = {"publication.json": msgspec.json.encode(known)}
    return assemble(_BUILT, added, (first, second))


def _told(card: msgspec.Struct) -> dict[str, object]:
    """Returns the public card as the page reads it: flat, whatever groups it has."""
    told: dict[str, Any] = msgspec.to_builtins(card)
    for group in ("about", "input"):
        told |= told.pop(group, {})
    return told


def _origin(address: Address) -> str:
    """Returns the origin of an operator; it becomes part of a policy, so it is a name alone."""
    if not _HOST.fullmatch(address.host):
        raise ConfigError(
            f"operator {address.host!r}; expected a host of letters, digits, dots and hyphens: "
            "correct operators.json"
        )
    return f"https://{address.host.lower()}:{address.port}"

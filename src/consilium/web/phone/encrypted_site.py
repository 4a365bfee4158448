# SPDX-License-Identifier: Apache-2.0
"""The phone page of the encrypted mode: two shares of the picture go to two operators.

There is no model in it and no WebAssembly. Guarantees: the page itself cannot reach the network;
its worker can reach the two operators' origins and nothing else, and holds no code that sends
anything but shares. What the page knows of the publication is fixed when it is made; operators
that describe it otherwise later are not asked.
"""

import re
from pathlib import Path
from typing import Final, final

import msgspec

from consilium.adapters.inference.asking import Offered, Patient
from consilium.adapters.inference.kit import Address, Operators, read_operators
from consilium.adapters.inference.public_card import Card
from consilium.errors import ConfigError
from consilium.web.phone.pages import PAGE, PhoneSite, assemble

_BUILT: Final = {
    "LICENCES.txt": "encrypted-LICENCES.txt",
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
    card: Card
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
        ConfigError: The card and the program differ, an operator's name is none, or the page's
            scripts were not made.
    """
    program, rule = offered.program, offered.card.about.input
    if program.image != (rule.size, rule.size, rule.channels):
        raise ConfigError(
            f"model {offered.card.name} computes on {program.image}; its card says pictures of "
            f"{rule.size} on a side and {rule.channels} channels: publish it again"
        )
    first, second = (_origin(one) for one in operators.computing)
    known = _Publication(
        operators=(first, second),
        publication=offered.publication,
        card=offered.card,
        ring_bits=program.ring_bits,
        image=program.image,
        image_fraction=program.image_fraction,
        unit=program.unit,
    )
    added = {"publication.json": msgspec.json.encode(known)}
    return assemble(_BUILT, added, (first, second))


def _origin(address: Address) -> str:
    """Returns the origin of an operator; it becomes part of a policy, so it is a name alone."""
    if not _HOST.fullmatch(address.host):
        raise ConfigError(
            f"operator {address.host!r}; expected a host of letters, digits, dots and hyphens: "
            "correct operators.json"
        )
    return f"https://{address.host.lower()}:{address.port}"

# SPDX-License-Identifier: Apache-2.0
"""Other offices: asked, compared, accepted, disconnected."""

from typing import final

from consilium.adapters.office.desk import Desk
from consilium.governance.access import Actor
from consilium.governance.association import Association


@final
class Associations:
    """Whom this office knows."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def ask(self, actor: Actor, to: str, *, address: str, own_address: str, reason: str) -> bytes:
        """Returns a signed introduction to the office `to`."""
        raise NotImplementedError

    def receive(self, message: bytes) -> Association:
        """Keeps a checked introduction of another office; nothing is trusted yet.

        Raises:
            RemoteProtocolError: Forged, stale, for another office or seen before.
        """
        raise NotImplementedError

    def answer(self, actor: Actor, association: str, *, accept: bool, words: str) -> bytes:
        """Accepts (the six words must be typed) or refuses; returns the signed answer."""
        raise NotImplementedError

    def take_answer(self, message: bytes) -> Association:
        """Keeps the answer to our introduction; still to be confirmed with `confirm`."""
        raise NotImplementedError

    def confirm(self, actor: Actor, association: str, *, words: str) -> Association:
        """Accepts an office that answered yes, once its six words were compared."""
        raise NotImplementedError

    def all(self, actor: Actor) -> tuple[Association, ...]:
        """Returns every office that is or was known."""
        raise NotImplementedError

    def known(self, name: str, key: bytes) -> Actor:
        """Returns the office as an actor.

        Raises:
            AccessDenied: It is not associated under this key.
        """
        raise NotImplementedError

    def revoke(self, actor: Actor, association: str, reason: str) -> Association:
        """Disconnects: nothing of that office is taken any more."""
        raise NotImplementedError

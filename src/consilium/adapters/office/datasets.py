# SPDX-License-Identifier: Apache-2.0
"""Datasets of an office, and the cards of other offices' datasets."""

from collections.abc import Sequence
from typing import final

from consilium.adapters.office.desk import Desk
from consilium.adapters.office.values import CardChanges, NewDataset, Raise
from consilium.governance.access import Actor
from consilium.governance.catalogue import Dataset


@final
class Datasets:
    """The catalogue and what a steward does with it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def register(self, actor: Actor, new: NewDataset) -> Dataset:
        """Reads an imported folder and keeps its card; the noisy count is charged.

        Raises:
            DataError: The folder is not one, or lies elsewhere.
            Conflict: The name is taken.
        """
        raise NotImplementedError

    def search(
        self, actor: Actor, words: str = "", tags: Sequence[str] = ()
    ) -> tuple[Dataset, ...]:
        """Returns the cards, of this and of associated offices, that match."""
        raise NotImplementedError

    def get(self, actor: Actor, dataset: str) -> Dataset:
        """Returns one card by its id."""
        raise NotImplementedError

    def named(self, actor: Actor, office: str, name: str) -> Dataset:
        """Returns one card by its office and name."""
        raise NotImplementedError

    def folder(self, actor: Actor, dataset: str) -> str:
        """Returns where its records lie; for stewards."""
        raise NotImplementedError

    def edit(self, actor: Actor, dataset: str, changes: CardChanges, version: int) -> Dataset:
        """Changes words of a card.

        Raises:
            Conflict: It was changed since `version`.
        """
        raise NotImplementedError

    def withdraw(self, actor: Actor, dataset: str, reason: str) -> Dataset:
        """Ends its use for good; its ledger is kept, projects on it are revoked."""
        raise NotImplementedError

    def freeze(self, actor: Actor, dataset: str, reason: str) -> Dataset:
        """Stops every new charge at once."""
        raise NotImplementedError

    def lower_cap(self, actor: Actor, dataset: str, epsilon: float) -> None:
        """Lowers the cap."""
        raise NotImplementedError

    def propose(self, actor: Actor, dataset: str, epsilon: float | None, reason: str) -> Raise:
        """Proposes a higher cap; with None, to unfreeze."""
        raise NotImplementedError

    def confirm(self, actor: Actor, proposal: str) -> Raise:
        """Makes a proposal of somebody else true."""
        raise NotImplementedError

    def proposals(self, actor: Actor, dataset: str | None = None) -> tuple[Raise, ...]:
        """Returns the pending ones."""
        raise NotImplementedError

    def opt_out(self, actor: Actor, pseudonym: str) -> None:
        """Leaves a patient out of everything from the next charge on."""
        raise NotImplementedError

    def cards(self, actor: Actor) -> bytes:
        """Returns this office's cards as a signed message for other offices."""
        raise NotImplementedError

    def take_cards(self, actor: Actor, message: bytes) -> int:
        """Keeps the cards of an associated office; returns how many."""
        raise NotImplementedError

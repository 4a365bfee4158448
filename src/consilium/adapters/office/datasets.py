# SPDX-License-Identifier: Apache-2.0
"""Datasets of an office, and the cards of other offices' datasets.

A steward registers a folder that `consilium data import` made. The card says how many patients
train, with two-sided geometric noise that is charged to the dataset's ledger before the card
exists. Guarantees: the card holds no exact count; a fingerprint binds a project to every byte of
the folder, since the description that it digests holds the digest of every file.
"""

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, final

import msgspec
from dp_accounting import LaplaceDpEvent

from consilium.adapters.office.desk import Desk, Turn, standing
from consilium.adapters.office.ending import end_dataset
from consilium.adapters.office.noisy_count import noisy_count
from consilium.adapters.office.settings import policy_of
from consilium.adapters.office.values import CardChanges, NewDataset, Raise
from consilium.adapters.store import ledger_views
from consilium.adapters.store.ledger_store import LedgerStore
from consilium.adapters.store.ledger_views import Standing
from consilium.adapters.store.office_shelves import (
    DATASETS,
    GRANTS,
    RAISES,
    DatasetRow,
    RaiseRow,
)
from consilium.data.dataset_folder import (
    DESCRIPTION,
    RECORDS,
    Description,
    read_description,
    read_inputs,
)
from consilium.data.preparation import record_ids
from consilium.errors import AccessDenied, ConfigError, Conflict, DataError, NotFound
from consilium.governance.access import Action, Actor, Resource, ResourceKind
from consilium.governance.catalogue import Dataset, DatasetState, matches
from consilium.governance.composition import Cap, Step
from consilium.governance.events import encode_event
from consilium.governance.ledger import Request
from consilium.governance.policy import Policy
from consilium.governance.roles import Permission

COUNT_EPSILON: Final = 0.1  # of the number on the card
_LARGEST_CARDS: Final = 1 << 22  # bytes of another office's cards
_CARDS: Final = msgspec.json.Decoder(tuple[Dataset, ...])


@final
class Datasets:
    """The catalogue and what a steward does with it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._ledger = LedgerStore(desk.database, desk.clock)

    # -- Registering ------------------------------------------------------------------

    def register(self, actor: Actor, new: NewDataset) -> Dataset:
        """Reads an imported folder and keeps its card; the noisy count is charged.

        Raises:
            DataError: The folder is not one.
            Conflict: The name is taken.
            BudgetExceeded: The cap does not pay for the count.
        """
        with self._desk.looking(actor) as turn:  # before anybody learns what lies on this machine
            turn.allow(Action.REGISTER_DATASET, Resource(kind=ResourceKind.DATASET))
        folder = Path(new.folder).resolve()
        said, fingerprint = read_description(folder), folder_fingerprint(folder)
        _check_words(new.name, new.description, new.tags)
        name = self._desk.new_id()
        with self._desk.acting(actor) as turn:
            turn.allow(Action.REGISTER_DATASET, Resource(kind=ResourceKind.DATASET, id=name))
            card = Dataset(
                id=name,
                name=new.name,
                office=self._desk.name,
                description=new.description,
                tags=tuple(sorted(set(new.tags))),
                task=said.task,
                unit=said.unit,
                classes=said.classes,
                features=said.features,
                shape=said.shape,
                noisy_patients=noisy_count(said.counts["train"].patients, COUNT_EPSILON),
                count_epsilon=COUNT_EPSILON,
                fingerprint=fingerprint,
                state=DatasetState.REGISTERED,
                registered=turn.now,
            )
            DATASETS.add(turn.connection, name, DatasetRow(card=card, folder=str(folder)))
            self._open_account(turn, card, new, folder)
            facts = {"name": new.name, "fingerprint": fingerprint, "unit": said.unit}
            turn.note(facts, about=name)
        return card

    def _open_account(self, turn: Turn, card: Dataset, new: NewDataset, folder: Path) -> None:
        """Gives the dataset its cap, makes its patients known, and pays for the count."""
        policy, people = policy_of(turn.connection), [turn.actor.id]
        cap = Cap(epsilon=new.cap or policy.dataset_cap, delta=policy.dataset_delta)
        if cap.epsilon > policy.dataset_cap:
            raise AccessDenied(
                f"a cap of {cap.epsilon:g}; this office's policy begins at {policy.dataset_cap:g}: "
                "register with less and propose a higher one to a second person"
            )
        if not ledger_views.datasets(turn.connection):
            self._ledger.cap_patients(turn.connection, _patients_cap(policy), people)
        self._ledger.set_cap(turn.connection, card.name, cap, people)
        self._ledger.enrol(
            turn.connection, card.name, _pseudonyms(folder, read_description(folder))
        )
        step = Step(event=encode_event(LaplaceDpEvent(noise_multiplier=1 / COUNT_EPSILON)))
        paid = Request(dataset=card.name, key=f"count of {card.id}", project="catalogue", step=step)
        self._ledger.spend(turn.connection, paid)

    # -- Reading ----------------------------------------------------------------------

    def search(
        self, actor: Actor, words: str = "", tags: Sequence[str] = ()
    ) -> tuple[Dataset, ...]:
        """Returns the cards, of this and of associated offices, that match."""
        with self._desk.looking(actor) as turn:
            cards = [row.card for row in DATASETS.where(turn.connection)]
            seen = [card for card in cards if turn.may(Action.SEE_DATASET, _resource(card))]
        return tuple(card for card in seen if matches(card, words, tags))

    def get(self, actor: Actor, dataset: str) -> Dataset:
        """Returns one card by its id."""
        with self._desk.looking(actor) as turn:
            card = DATASETS.get(turn.connection, dataset).card
            turn.allow(Action.SEE_DATASET, _resource(card))
        return card

    def named(self, actor: Actor, office: str, name: str) -> Dataset:
        """Returns one card by its office and name.

        Raises:
            NotFound: There is none.
        """
        for card in self.search(actor):
            if (card.office, card.name) == (office, name):
                return card
        raise NotFound(f"no dataset {name!r} of {office!r} is known here; expected one that is")

    def folder(self, actor: Actor, dataset: str) -> str:
        """Returns where its records lie; for stewards."""
        with self._desk.looking(actor) as turn:
            row = self._own(turn, dataset)
            turn.allow(Action.EDIT_DATASET, _resource(row.card))
        return row.folder

    def standing(self, actor: Actor, dataset: str) -> Standing:
        """Returns how its budget stands, exactly.

        Raises:
            AccessDenied: The actor has no grant on it and is no steward.
        """
        with self._desk.looking(actor) as turn:
            row = self._own(turn, dataset)
            grants = GRANTS.having(turn.connection, "dataset", dataset)
            holders = frozenset(
                one.holder for one in grants if one.revoked is None and turn.now < one.expires
            )
            turn.allow(Action.SEE_BUDGET, replace(_resource(row.card), granted=holders))
            return ledger_views.standing(turn.connection, row.card.name)

    # -- Changing ---------------------------------------------------------------------

    def edit(self, actor: Actor, dataset: str, changes: CardChanges, version: int) -> Dataset:
        """Changes words of a card.

        Raises:
            Conflict: It was changed since `version`.
        """
        with self._desk.acting(actor) as turn:
            row = self._own(turn, dataset)
            turn.allow(Action.EDIT_DATASET, _resource(row.card))
            if row.card.version != version:
                raise Conflict(f"the card is at version {row.card.version}; you read {version}")
            card = replace(
                row.card,
                description=changes.description or row.card.description,
                tags=row.card.tags if changes.tags is None else tuple(sorted(set(changes.tags))),
            )
            _check_words(card.name, card.description, card.tags)
            return self._put(turn, replace(row, card=card), {"tags": list(card.tags)})

    def withdraw(self, actor: Actor, dataset: str, reason: str) -> Dataset:
        """Ends its use for good; its ledger is kept, projects on it are revoked."""
        with self._desk.acting(actor) as turn:
            row = self._own(turn, dataset)
            turn.allow(Action.WITHDRAW_DATASET, _resource(row.card))
            ended = end_dataset(turn, row, reason)
            self._ledger.freeze(turn.connection, row.card.name, [turn.actor.id])
            gone = replace(row, card=replace(row.card, state=DatasetState.WITHDRAWN))
            return self._put(turn, gone, {"reason": reason, "projects": ended})

    def freeze(self, actor: Actor, dataset: str, reason: str) -> Dataset:
        """Stops every new charge at once."""
        with self._desk.acting(actor) as turn:
            row = self._own(turn, dataset)
            turn.allow(Action.FREEZE_DATASET, _resource(row.card))
            self._ledger.freeze(turn.connection, row.card.name, [turn.actor.id])
            frozen = replace(row, card=replace(row.card, state=DatasetState.FROZEN))
            return self._put(turn, frozen, {"reason": reason})

    def lower_cap(self, actor: Actor, dataset: str, epsilon: float) -> None:
        """Lowers the cap.

        Raises:
            AccessDenied: It would rise; that takes two people.
        """
        with self._desk.acting(actor) as turn:
            row = self._own(turn, dataset)
            turn.allow(Action.LOWER_CAP, _resource(row.card))
            self._cap(turn, row.card.name, epsilon, [turn.actor.id])
            turn.note({"epsilon": epsilon})

    def propose(self, actor: Actor, dataset: str, epsilon: float | None, reason: str) -> Raise:
        """Proposes a higher cap; with None, to unfreeze.

        Raises:
            ConfigError: Without a reason.
        """
        if not reason.strip():
            raise ConfigError("a higher cap without a reason; expected one: a second person reads")
        with self._desk.acting(actor) as turn:
            row = self._own(turn, dataset)
            turn.allow(Action.PROPOSE_RAISE, _resource(row.card))
            proposal = RaiseRow(
                id=self._desk.new_id(),
                dataset=dataset,
                epsilon=epsilon,
                reason=reason,
                proposed_by=turn.actor.id,
                proposed_by_name=turn.actor.name,
                proposed=turn.now,
            )
            RAISES.add(turn.connection, proposal.id, proposal)
            turn.note({"epsilon": epsilon, "reason": reason, "proposal": proposal.id})
        return _raise(proposal)

    def confirm(self, actor: Actor, proposal: str) -> Raise:
        """Makes a proposal of somebody else true."""
        with self._desk.acting(actor) as turn:
            asked = RAISES.get(turn.connection, proposal)
            row = self._own(turn, asked.dataset)
            turn.allow(
                Action.CONFIRM_RAISE,
                replace(_resource(row.card), author=asked.proposed_by, state=asked.state),
            )
            if row.card.state is DatasetState.WITHDRAWN:
                raise Conflict(f"dataset {row.card.name} was withdrawn; expected it in use")
            people = [asked.proposed_by, turn.actor.id]
            self._check_stands(turn, asked.proposed_by)
            if asked.epsilon is None:
                self._ledger.thaw(turn.connection, row.card.name, people)
                thawed = replace(row.card, state=DatasetState.REGISTERED)
                row = replace(row, card=replace(thawed, version=thawed.version + 1))
                DATASETS.put(turn.connection, row.card.id, row)
            else:
                self._cap(turn, row.card.name, asked.epsilon, people)
            done = replace(asked, state="confirmed", confirmed_by=turn.actor.id)
            RAISES.put(turn.connection, proposal, done)
            turn.note({"epsilon": asked.epsilon, "people": people, "proposal": proposal})
        return _raise(done)

    def proposals(self, actor: Actor, dataset: str | None = None) -> tuple[Raise, ...]:
        """Returns the pending ones."""
        with self._desk.looking(actor) as turn:
            pending = [row for row in RAISES.where(turn.connection) if row.state == "pending"]
            seen = [
                row
                for row in pending
                if turn.may(Action.PROPOSE_RAISE, _resource(self._own(turn, row.dataset).card))
            ]
        return tuple(_raise(row) for row in seen if dataset in (None, row.dataset))

    def opt_out(self, actor: Actor, pseudonym: str) -> None:
        """Leaves a patient out of everything from the next charge on."""
        with self._desk.acting(actor) as turn:
            turn.allow(Action.OPT_OUT, Resource(kind=ResourceKind.DATASET))
            self._ledger.opt_out(turn.connection, pseudonym, [turn.actor.id])
            turn.note()  # who it is stands in the ledger alone, as a number

    # -- Other offices ----------------------------------------------------------------

    def cards(self, actor: Actor) -> bytes:
        """Returns the cards of this office's usable datasets, for other offices."""
        own = [card for card in self.search(actor) if card.office == self._desk.name]
        return msgspec.json.encode([one for one in own if one.state is not DatasetState.WITHDRAWN])

    def take_cards(self, actor: Actor, message: bytes) -> int:
        """Replaces the cards of an associated office by these; returns how many.

        Raises:
            AccessDenied: They are another's, or the actor is no office.
            DataError: They are no cards.
        """
        if len(message) > _LARGEST_CARDS:
            raise DataError(f"cards of {len(message)} bytes; expected at most {_LARGEST_CARDS}")
        try:
            cards = _CARDS.decode(message)
        except msgspec.MsgspecError as error:
            raise DataError(f"no cards: {error}; expected those of a catalogue") from None
        with self._desk.acting(actor) as turn:
            turn.allow(Action.DELIVER_CARDS, Resource(kind=ResourceKind.DATASET))
            if any(card.office != turn.actor.office for card in cards):
                raise AccessDenied(f"{turn.actor.office} may bring its own cards alone")
            for row in DATASETS.having(turn.connection, "office", turn.actor.office):
                DATASETS.drop(turn.connection, row.card.id)
            for card in cards:
                DATASETS.add(turn.connection, card.id, DatasetRow(card=card))
            turn.note({"office": turn.actor.office, "cards": len(cards)})
        return len(cards)

    # -- Inside -----------------------------------------------------------------------

    def _own(self, turn: Turn, dataset: str) -> DatasetRow:
        row = DATASETS.get(turn.connection, dataset)
        if row.card.office != self._desk.name:
            raise NotFound(f"dataset {row.card.name!r} is of {row.card.office}; act there")
        return row

    def _put(self, turn: Turn, row: DatasetRow, facts: dict[str, object]) -> Dataset:
        card = replace(row.card, version=row.card.version + 1)
        DATASETS.put(turn.connection, card.id, replace(row, card=card))
        turn.note(facts)
        return card

    def _cap(self, turn: Turn, name: str, epsilon: float, people: Sequence[str]) -> None:
        before = ledger_views.standing(turn.connection, name)
        cap = Cap(epsilon=epsilon, delta=before.delta)
        self._ledger.set_cap(turn.connection, name, cap, people)

    def _check_stands(self, turn: Turn, person: str) -> None:
        """Refuses the word of somebody who may no longer give it."""
        claimed = Actor(id=person, name="", office=self._desk.name)
        now = standing(turn.connection, claimed, self._desk.name)
        if Permission.TRIAGE_REQUESTS not in now.permissions:
            raise Conflict("who proposed it may no longer; expected a new proposal")


def folder_fingerprint(folder: Path) -> str:
    """Returns what stands for an imported folder: SHA-256 of its description, hexadecimal."""
    return hashlib.sha256((folder / DESCRIPTION).read_bytes()).hexdigest()


def check_folder(folder: Path, fingerprint: str) -> None:
    """Refuses a folder that is not, to the byte, the one that was registered.

    Raises:
        DataError: With the files that changed.
    """
    said = read_description(folder)
    found = folder_fingerprint(folder)
    changed = [name for name, digest in said.files.items() if _digest(folder / name) != digest]
    if found != fingerprint or changed:
        what = ", ".join(sorted(changed)) or DESCRIPTION
        raise DataError(
            f"dataset folder {folder.name}: {what} changed since it was registered (found "
            f"{found[:12]}, approved {fingerprint[:12]}); expected the same bytes: register it "
            "anew and have projects approved anew"
        )


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _pseudonyms(folder: Path, said: Description) -> Iterator[str]:
    """Gives the privacy unit of every training record, by the name that runs give it."""
    if said.unit == "record":
        yield from map(str, record_ids(read_inputs(folder, said, "train"), "train"))
        return
    with (folder / RECORDS).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["split"] == "train":
                yield row["pseudonym"]


def _patients_cap(policy: Policy) -> Cap:
    return Cap(epsilon=policy.dataset_cap, delta=policy.dataset_delta)


def _resource(card: Dataset) -> Resource:
    return Resource(kind=ResourceKind.DATASET, id=card.id, state=card.state, dataset=card.id)


def _check_words(name: str, description: str, tags: Sequence[str]) -> None:
    if not 0 < len(name.strip()) <= 100 or not 0 < len(description.strip()) <= 10_000:
        raise ConfigError("a dataset without a name or a description; expected both, for people")
    if len(tags) > 50 or any(not 0 < len(tag) <= 60 for tag in tags):
        raise ConfigError("a tag that is empty or longer than 60 characters, or more than 50 tags")


def _raise(row: RaiseRow) -> Raise:
    return Raise(
        id=row.id,
        dataset=row.dataset,
        epsilon=row.epsilon,
        reason=row.reason,
        proposed_by=row.proposed_by,
        proposed_by_name=row.proposed_by_name,
        proposed=row.proposed,
        state=row.state,
    )

# SPDX-License-Identifier: Apache-2.0
"""A coordinator and hospitals in one folder, each an office with people, datasets and rules.

Everything is what a real office has: a database, keys, accounts whose passwords nobody knows (one
enters by a one-time link), associations with compared words, a project in the stewards' inboxes.
What makes it a demonstration: one machine, public data, and that the people of all hospitals but
the first are played (`Players`), as the labels on the pages say.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from consilium.adapters.identity.accounts import Accounts, Founder
from consilium.adapters.office.office import Office, found_office
from consilium.adapters.office.values import Invited, NewDataset, ProjectDraft, Said
from consilium.adapters.site_folder import SiteFolder, SiteSettings
from consilium.errors import Conflict
from consilium.governance.access import Actor
from consilium.governance.association import OfficeKind
from consilium.governance.contract import Purpose, Verdict
from consilium.governance.policy import PRESETS
from consilium.governance.projects import State

COORDINATOR: Final = "coordinator"
DATASET: Final = "chest"
_WAITING: Final = (State.SUBMITTED, State.UNDER_REVIEW)


@final
@dataclass(frozen=True, slots=True)
class Staffed:
    """An office and its people: the owner, and who does the work here."""

    office: Office
    folder: Path
    owner: Actor
    worker: Actor

    @property
    def name(self) -> str:
        """Of the office."""
        return self.office.desk.name

    def entry(self, actor: Actor) -> str:
        """Returns the word of a link that lets `actor` in once."""
        return Accounts(self.office).entry_link(actor.id)


def found_coordinator(folder: Path) -> Staffed:
    """Returns a new coordinator with an owner and a researcher."""
    return _staffed(folder, COORDINATOR, "coordinator", Invited(
        name="Dr Rossi", email="rossi@coordinator.example",
        roles=frozenset({"User"}),
    ))  # fmt: skip


def found_hospital(folder: Path, name: str, sites: Sequence[str], cap: float) -> Staffed:
    """Returns a new hospital with an owner and a steward; its dataset is in `folder`/data."""
    staffed = _staffed(folder, name, "site", Invited(
        name="Dr Weber", email=f"weber@{name}.example",
        roles=frozenset({"Data Steward"}),
    ))  # fmt: skip
    SiteFolder(folder).settle(
        SiteSettings(
            name=name,
            sites=tuple(sites),
            data_folder=str(folder / "data"),
            trusts="the-first-roster-that-the-coordinator-shows",
            office=str(folder),
        )
    )
    new = NewDataset(
        name=DATASET,
        folder=str(folder / "data" / DATASET),
        description="Public images that stand for this hospital's own, for the demonstration.",
        tags=("x-ray", "demonstration"),
        cap=cap,
    )
    staffed.office.datasets.register(staffed.worker, new)
    return staffed


def associate(one: Staffed, other: Staffed, address: str = "") -> None:
    """Makes two offices know each other, as owners do who have compared the six words.

    Args:
        one: That asks; where the other has an address, its courier will go there.
        other: That answers.
        address: Of the other, or empty.
    """
    here, there = one.office.associations, other.office.associations
    message = here.ask(
        one.owner,
        other.name,
        address=address,
        own_address="",
        reason="to train together in this demonstration",
    )
    asked = there.receive(message)
    answer = there.answer(other.owner, asked.id, accept=True, words=asked.words())
    answered = here.take_answer(answer)
    here.confirm(one.owner, answered.id, words=answered.words())


def submit(coordinator: Staffed, toml: str, sites: Sequence[str]) -> str:
    """Returns the id of a project that the researcher drafted and handed in."""
    projects, researcher = coordinator.office.projects, coordinator.worker
    draft = ProjectDraft(
        toml=toml,
        arm="federated-dp",
        datasets=dict.fromkeys(sites, DATASET),
        purpose=Purpose(
            text="Learn to tell chest images apart, in a demonstration with public images.",
            ethics="none needed: public data",
        ),
        days=30,
    )
    drafted = projects.draft(researcher, draft)
    return projects.submit(researcher, drafted.id).id


@final
class Players:
    """The people whom nobody plays: they approve what is in order, and start what is ready."""

    def __init__(self, stewards: Sequence[Staffed], researcher: Staffed) -> None:
        self._stewards, self._researcher = tuple(stewards), researcher

    def act(self) -> None:
        """Does what waits for them."""
        for steward in self._stewards:
            for view in steward.office.projects.inbox(steward.worker).needs_you:
                if view.state in _WAITING and not view.refusals:
                    said = Said(verdict=Verdict.APPROVE, digest=view.digest)
                    self._try(steward, view.id, said)
        office, worker = self._researcher.office, self._researcher.worker
        for view in office.projects.find(worker, (State.READY,)):
            office.runs.start(worker, view.id, f"{view.name}-{len(view.runs) + 1}")

    @staticmethod
    def _try(steward: Staffed, project: str, said: Said) -> None:
        try:
            steward.office.projects.review(steward.worker, project, said)
        except Conflict:
            return  # it changed since it was read: next time


def _staffed(folder: Path, name: str, kind: OfficeKind, worker: Invited) -> Staffed:
    office = found_office(folder, name, kind, policy=PRESETS["demo"])
    accounts = Accounts(office)
    first = accounts.first_link()
    assert first is not None  # noqa: S101 - the office is new
    founder = Founder(name="The administrator", email=f"admin@{name}.example")
    owner = _actor(accounts, accounts.join(first, secrets.token_urlsafe(24), founder))
    word, _ = accounts.invite(owner, worker)
    return Staffed(
        office, folder, owner, _actor(accounts, accounts.join(word, secrets.token_urlsafe(24)))
    )


def _actor(accounts: Accounts, session: str) -> Actor:
    found = accounts.actor(session)
    assert found is not None  # noqa: S101 - it was opened just now
    return found

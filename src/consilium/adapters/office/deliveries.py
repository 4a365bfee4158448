# SPDX-License-Identifier: Apache-2.0
"""A project as a message or a file between offices: contract and signed words, nothing else.

Guarantees: a contract is taken only with the researcher's signature by the key of an office that
an administrator here accepted; a site's word only with that site's. Who carried the file does not
matter. What this office itself said is never taken from outside.
"""

from typing import Literal, final

import msgspec

from consilium.adapters.office.desk import Desk, Turn
from consilium.adapters.office.project_rows import Case, case_of, move, revision_name
from consilium.adapters.office.reviewing import keep_statement, settle
from consilium.adapters.office.terms import agreement, check_terms
from consilium.adapters.store.office_shelves import (
    ASSOCIATIONS,
    DATASETS,
    OFFICE,
    PROJECTS,
    REVISIONS,
    THE_OFFICE,
    ProjectRow,
    RevisionRow,
)
from consilium.errors import AccessDenied, Conflict, DataError
from consilium.governance.association import AssociationState
from consilium.governance.catalogue import Dataset
from consilium.governance.contract import (
    LARGEST,
    Contract,
    Signature,
    SignerRole,
    Verdict,
    check_signature,
    contract_bytes,
    contract_digest,
    read_contract,
)
from consilium.governance.projects import OVER, Event, State

_LARGEST = 2 * LARGEST  # bytes; the contract is base64 in it
_MOST_STATEMENTS = 2_000


@final
class Delivery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What goes from office to office."""

    format: Literal[1] = 1
    project: str
    revision: int
    contract: bytes
    statements: tuple[Signature, ...]


def delivery(case: Case) -> bytes:
    """Returns the project as its message: its terms and every word that stands."""
    if case.asked is None:
        raise Conflict(f"project {case.row.name!r} is a draft; expected it submitted")
    said = [case.asked.signature, *(one.signature for one in case.decisions.values())]
    return msgspec.json.encode(
        Delivery(
            project=case.row.id,
            revision=case.row.revision,
            contract=contract_bytes(case.contract),
            statements=tuple(said),
        )
    )


def read_delivery(message: bytes) -> tuple[Delivery, Contract]:
    """Returns what is in a message; no signature was checked yet.

    Raises:
        DataError: It is damaged or too large.
    """
    if len(message) > _LARGEST:
        raise DataError(f"a project of {len(message)} bytes; expected at most {_LARGEST}")
    try:
        found = msgspec.json.decode(message, type=Delivery)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataError(f"no project: {error}; export it again") from None
    if len(found.statements) > _MOST_STATEMENTS or not 1 <= found.revision <= 10_000:
        raise DataError("a project with too many words or revisions; export it again")
    return found, read_contract(found.contract)


def take(turn: Turn, desk: Desk, message: bytes) -> Case:
    """Returns the project after a message about it; an older one changes nothing.

    Raises:
        DataError: It is damaged, or its terms are not what its arm does, or not of our dataset.
        AccessDenied: A signature is forged or of an unknown office.
        Conflict: The project cannot change any more.
    """
    found, contract = read_delivery(message)
    asked = _asked(found)
    check_signature(contract, asked, _key(turn, desk, asked.office))
    case = _placed(turn, desk, found, contract, asked)
    if contract_digest(case.contract) != contract_digest(contract):
        return case  # what was carried is older than what is here
    for said in found.statements:
        if said.office != desk.name and said is not asked:
            case = _heard(turn, desk, case, said)
    return settle(turn, desk, case)


def _asked(found: Delivery) -> Signature:
    asked = [one for one in found.statements if one.role is SignerRole.RESEARCHER]
    if len(asked) != 1:
        raise DataError("a project without its researcher's one signature; export it again")
    return asked[0]


def _placed(turn: Turn, desk: Desk, found: Delivery, contract: Contract, asked: Signature) -> Case:
    """Returns the project at the revision that was delivered, new or known."""
    row = PROJECTS.peek(turn.connection, found.project)
    if row is None:
        return _new(turn, desk, found, contract, asked)
    case = case_of(turn.connection, row, desk.name)
    if row.from_office != asked.office:
        raise AccessDenied(f"project {row.name!r} is {row.from_office}'s, not {asked.office}'s")
    if asked.office == desk.name:
        return case
    if found.revision < row.revision:
        return case
    if found.revision > row.revision:
        return _revised(turn, desk, case, found, contract)
    if contract_digest(contract) != contract_digest(case.contract):
        words = f"{row.name!r} has two contracts of revision {row.revision}; expected one"
        raise DataError(f"{words}: ask its author, and keep both")
    return _told_again(turn, case, asked)


def _new(turn: Turn, desk: Desk, found: Delivery, contract: Contract, asked: Signature) -> Case:
    if asked.office == desk.name:
        raise DataError(f"project {contract.name!r} says it began here; it did not")
    row = ProjectRow(
        id=found.project,
        name=contract.name,
        state=State.DRAFT,
        since=turn.now,
        revision=found.revision,
        version=1,
        author=f"office:{asked.office}",
        author_name=f"{asked.person} ({asked.office})",
        from_office=asked.office,
    )
    PROJECTS.add(turn.connection, row.id, row)
    _keep_revision(turn, desk, found, contract)
    case = case_of(turn.connection, row, desk.name)
    keep_statement(turn, case, asked)
    return move(turn, case, Event.SUBMIT, last_words=asked.words)


def _revised(turn: Turn, desk: Desk, case: Case, found: Delivery, contract: Contract) -> Case:
    asked = _asked(found)
    case = move(turn, case, Event.EDIT, revision=found.revision, name=contract.name)
    _keep_revision(turn, desk, found, contract)
    case = case_of(turn.connection, case.row, desk.name)
    keep_statement(turn, case, asked)
    return move(turn, case, Event.SUBMIT, last_words=asked.words)


def _told_again(turn: Turn, case: Case, asked: Signature) -> Case:
    """Returns the project after a newer word of its researcher on the same terms."""
    if case.asked is not None and asked.time <= case.asked.signature.time:
        return case
    keep_statement(turn, case, asked)
    if asked.verdict is Verdict.REVOKE and case.row.state not in OVER:
        return move(turn, case, Event.REVOKE, last_words=asked.words)
    if asked.verdict is Verdict.APPROVE and case.row.state is State.NEEDS_CHANGES:
        return move(turn, case, Event.SUBMIT, last_words=asked.words)
    return case


def _heard(turn: Turn, desk: Desk, case: Case, said: Signature) -> Case:
    """Returns the project after another site's word."""
    if said.role is not SignerRole.STEWARD or said.office not in case.contract.datasets:
        raise DataError(f"a word of {said.office!r}, which takes no part; export it again")
    check_signature(case.contract, said, _key(turn, desk, said.office))
    before = case.decisions.get(said.office)
    if before is not None and said.time <= before.signature.time:
        return case
    keep_statement(turn, case, said)
    case = case_of(turn.connection, case.row, desk.name)
    if said.verdict is Verdict.APPROVE:
        return case
    if case.row.state is State.APPROVED and said.verdict is not Verdict.REVOKE:
        return move(turn, case, Event.ASK, last_words=f"{said.office}: {said.words}")
    if case.row.state is State.READY:
        return move(turn, case, Event.APPROVAL_VOID, last_words=f"{said.office}: {said.words}")
    return case


def _keep_revision(turn: Turn, desk: Desk, found: Delivery, contract: Contract) -> None:
    check_terms(contract, own_card(turn, desk, contract))
    keep_revision(turn, found.project, found.revision, contract)


def keep_revision(turn: Turn, project: str, number: int, contract: Contract) -> None:
    """Writes a version of a contract down."""
    row = RevisionRow(
        project=project,
        number=number,
        contract=contract_bytes(contract),
        digest=contract_digest(contract),
        agreement=agreement(contract),
        time=turn.now,
    )
    REVISIONS.add(turn.connection, revision_name(project, number), row)


def own_card(turn: Turn, desk: Desk, contract: Contract) -> Dataset | None:
    """Returns the card of this office's dataset in `contract`; None: it takes no part.

    Raises:
        DataError: The contract is for another dataset than is registered here.
    """
    bound = contract.datasets.get(desk.name)
    if bound is None:
        return None
    cards = {
        row.card.name: row.card for row in DATASETS.having(turn.connection, "office", desk.name)
    }
    card = cards.get(bound.dataset)
    if card is None or card.fingerprint != bound.fingerprint:
        found = "none such" if card is None else f"fingerprint {card.fingerprint[:12]}"
        raise DataError(
            f"contract {contract.name!r} is for dataset {bound.dataset!r} with fingerprint "
            f"{bound.fingerprint[:12]}; this office has {found}: the researcher must read the "
            "catalogue again"
        )
    return card


def _key(turn: Turn, desk: Desk, office: str) -> bytes:
    """Returns the key of an office that this one knows.

    Raises:
        AccessDenied: It is not associated.
    """
    if office == desk.name:
        return OFFICE.get(turn.connection, THE_OFFICE).key
    for row in ASSOCIATIONS.having(turn.connection, "name", office):
        if row.known.state is AssociationState.ACCEPTED:
            return row.known.key
    raise AccessDenied(
        f"a word of office {office!r}, which is not associated here; expected an association that "
        "an administrator accepted"
    )

# SPDX-License-Identifier: Apache-2.0
"""The log of a real office: tampered with in its database, rewritten whole, found by others."""

import msgspec
import pytest
from sqlalchemy import Connection, delete, insert, update
from tests.adapters.office.conftest import Federation
from tests.adapters.office.made import Staff, as_office

from consilium.adapters.office.values import LogFilter, Page
from consilium.adapters.store.audit_store import append_entry, entries_from
from consilium.adapters.store.office_tables import COSIGNED, LOG
from consilium.errors import AccessDenied, RemoteProtocolError
from consilium.governance.audit_log import fact_of


def witness(here: Staff, there: Staff) -> bytes:
    """`there` signs the head of `here`, and `here` keeps the signature."""
    head = here.office.log.head(there.name)
    signed = there.office.log.witness(as_office(there, here), head)
    here.office.log.keep(as_office(here, there), signed)
    return signed


def findings(staff: Staff, heads: tuple[bytes, ...] = ()) -> list[int]:
    return [one.sequence for one in staff.office.log.verify(staff.owner, heads).findings]


def tampered(staff: Staff, place: int, **values: object) -> None:
    with staff.office.desk.database.transaction() as connection:
        connection.execute(update(LOG).where(LOG.c.sequence == place).values(**values))


def rewritten(connection: Connection, place: int) -> None:
    """Rewrites the whole table as if entry `place` had been another's: a perfect chain."""
    facts = [fact_of(entry) for entry in entries_from(connection)]
    connection.execute(delete(LOG))
    for number, fact in enumerate(facts, 1):
        forged = (
            fact
            if number != place
            else type(fact)(
                time=fact.time, actor="01X", actor_name="X", action=fact.action, resource="x:x"
            )
        )
        append_entry(connection, forged)


def test_a_new_office_has_an_intact_log(federation: Federation) -> None:
    site = federation.sites["tum"]
    report = site.office.log.verify(site.owner)

    assert report.intact
    assert report.entries > 5


@pytest.mark.parametrize(
    "values", [{"actor_name": "X"}, {"facts": "{}"}, {"link": bytes(32)}, {"sequence": 900}]
)
def test_a_changed_row_is_named(federation: Federation, values: dict[str, object]) -> None:
    site = federation.sites["tum"]
    tampered(site, 3, **values)

    assert 3 in findings(site)


def test_a_deleted_row_is_named(federation: Federation) -> None:
    site = federation.sites["tum"]
    with site.office.desk.database.transaction() as connection:
        connection.execute(delete(LOG).where(LOG.c.sequence == 4))

    assert findings(site) == [4]


def test_a_rewritten_database_is_found_by_the_head_of_another_office(
    federation: Federation,
) -> None:
    site, centre = federation.sites["tum"], federation.centre
    witness(site, centre)
    with site.office.desk.database.transaction() as connection:
        connection.execute(delete(COSIGNED))
        rewritten(connection, 5)
    assert findings(site) == []  # nothing here shows it

    held = centre.office.log.held(centre.owner, "tum")

    assert findings(site, held)[0] == 5
    with pytest.raises(RemoteProtocolError, match="was rewritten"):
        witness(site, centre)


def test_a_log_cut_off_is_found_by_what_was_signed(federation: Federation) -> None:
    site, centre = federation.sites["tum"], federation.centre
    witness(site, centre)
    last = site.office.log.verify(site.owner).witnessed
    with site.office.desk.database.transaction() as connection:
        connection.execute(delete(LOG).where(LOG.c.sequence >= last))

    assert last in findings(site)


def test_sessions_after_another_are_witnessed(federation: Federation) -> None:
    site, centre = federation.sites["tum"], federation.centre
    for _ in range(3):
        witness(site, centre)
        federation.submitted()

    report = site.office.log.verify(site.owner)

    assert report.intact
    assert (report.witness, report.witnessed > 5) == ("centre", True)


def test_a_head_brought_by_another_is_refused(federation: Federation) -> None:
    site, other, centre = federation.sites["tum"], federation.sites["lmu"], federation.centre
    head = site.office.log.head("centre")

    with pytest.raises(RemoteProtocolError, match="brought by 'lmu'"):
        centre.office.log.witness(as_office(centre, other), head)


def test_a_forged_signature_in_the_database_is_named(federation: Federation) -> None:
    site, centre = federation.sites["tum"], federation.centre
    signed = bytearray(witness(site, centre))
    signed[-1] ^= 1
    row = msgspec.json.encode({"message": bytes(signed), "office": "centre", "sequence": 3})
    with site.office.desk.database.transaction() as connection:
        connection.execute(insert(COSIGNED).values(id="z", witness="centre", body=row.decode()))

    assert findings(site) != []


def test_who_may_not_see_the_log_does_not(federation: Federation) -> None:
    site = federation.sites["tum"]
    user = site.join("rossi")

    with pytest.raises(AccessDenied):
        site.office.log.latest(user, LogFilter(), Page())
    with pytest.raises(AccessDenied):
        site.office.log.export(user)


def test_pages_go_both_ways(federation: Federation) -> None:
    site = federation.sites["tum"]
    newest = site.office.log.latest(site.owner, LogFilter(), Page(most=2))
    before = site.office.log.latest(site.owner, LogFilter(), Page(beyond=newest[1].sequence))
    after = site.office.log.entries(site.owner, LogFilter(), Page(beyond=2, most=1))

    assert newest[0].sequence == newest[1].sequence + 1 == before[0].sequence + 2
    assert after[0].sequence == 3


def test_the_export_holds_every_entry(federation: Federation) -> None:
    site = federation.sites["tum"]
    entries = site.office.log.verify(site.owner).entries

    assert len(site.office.log.export(site.owner).splitlines()) == entries


def test_a_refusal_is_one_entry(federation: Federation) -> None:
    site = federation.sites["tum"]
    before = site.office.log.verify(site.owner).entries

    with pytest.raises(AccessDenied):
        site.office.people.set_roles(site.people["weber"], site.owner.id, frozenset())

    assert site.office.log.verify(site.owner).entries == before + 1

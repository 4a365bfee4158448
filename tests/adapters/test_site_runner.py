# SPDX-License-Identifier: Apache-2.0
"""A site's driver: it pays before it speaks, draws every secret anew, and refuses the rest."""

import errno
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.adapters.conftest import Parties, gather, make_project

from consilium import wire
from consilium.adapters.dataset import Dataset
from consilium.adapters.randomness import encapsulate
from consilium.adapters.site_runner import SiteRunner
from consilium.errors import BudgetExceeded, OutOfTurn, RemoteProtocolError
from consilium.federation.ledger import Receipt
from consilium.federation.messages import (
    FROM_COORDINATOR,
    FROM_SITE,
    PlainUpdate,
    PrekeysWanted,
    RoundStart,
    model_digest,
)
from consilium.secagg.messages import Ciphertexts, Hello, Plan, Roster, Survivors

WEIGHTS = bytes(4 * 650)
START = RoundStart(Plan(1, (0,), model_digest(WEIGHTS)), WEIGHTS, 0.1)


@pytest.fixture
def parties(digits: Dataset) -> Parties:
    return gather(make_project(), "central-dp", digits)


def test_the_charge_is_made_before_the_answer(parties: Parties) -> None:
    (site,) = parties.sites
    site.start()

    (answer,) = site.handle(wire.encode(START))

    (charge,) = parties.ledgers[0].charges
    assert isinstance(wire.decode(answer, FROM_SITE, limit=10_000), PlainUpdate)
    assert (charge.site, charge.round, charge.terms) == (0, 1, parties.setup.terms)


def test_nothing_leaves_a_site_whose_budget_is_spent(parties: Parties) -> None:
    (site,) = parties.sites
    parties.ledgers[0].allowed = 0
    site.start()

    with pytest.raises(BudgetExceeded):
        site.handle(wire.encode(START))

    assert parties.ledgers[0].charges == []


def test_every_secret_is_drawn_anew(parties: Parties) -> None:
    drawn: list[bytes] = []

    def source() -> bytes:
        drawn.append(bytes([len(drawn)]) * 32)
        return drawn[-1]

    site = SiteRunner(replace(parties.parts[0], source=source))
    site.start()
    site.handle(wire.encode(START))

    assert len(drawn) == 4  # to begin, with the message, for coins and noise, with the receipt


def test_encapsulations_are_drawn_by_what_the_site_brings(digits: Dataset) -> None:
    parties = gather(make_project({"sites.post_quantum": "true"}), "federated", digits)
    drawn: list[bytes] = []

    def draw(key: bytes) -> tuple[bytes, bytes]:
        drawn.append(key)
        return encapsulate(key)

    sites = [SiteRunner(replace(part, encapsulator=draw)) for part in parties.parts]
    hellos = [wire.decode(site.start()[0], FROM_SITE, limit=10_000) for site in sites]
    roster = Roster(tuple(hello for hello in hellos if isinstance(hello, Hello)))
    (answer,) = sites[1].handle(wire.encode(roster))

    assert isinstance(wire.decode(answer, FROM_SITE, limit=10_000), Ciphertexts)
    assert drawn == [hello.key[32:] for hello in roster.hellos[2:]]


def test_two_rounds_at_one_model_differ_in_coins_and_noise(parties: Parties) -> None:
    (site,) = parties.sites
    site.start()

    first = site.handle(wire.encode(START))
    second = site.handle(wire.encode(RoundStart(Plan(2, (0,), START.plan.model), WEIGHTS, 0.1)))

    assert first[0][-1300:] != second[0][-1300:]


REFUSED: dict[str, tuple[bytes, type[Exception]]] = {
    "junk": (b"junk", RemoteProtocolError),
    "oversized": (b"\x01" + bytes(100_000), RemoteProtocolError),
    "of a site": (wire.encode(PlainUpdate(0, 1, b"")), RemoteProtocolError),
    "prekeys without a sum": (wire.encode(PrekeysWanted(1)), RemoteProtocolError),
    "opening without a sum": (wire.encode(Survivors(1, (0,))), RemoteProtocolError),
    "a round of others": (
        wire.encode(RoundStart(Plan(1, (1,), START.plan.model), WEIGHTS, 0.1)),
        RemoteProtocolError,
    ),
    "another model": (
        wire.encode(RoundStart(START.plan, bytes(4 * 649) + b"\x00\x00\x80?", 0.1)),
        RemoteProtocolError,
    ),
    "a model that diverged": (
        wire.encode(RoundStart(Plan(1, (0,), model_digest(b"\xff" * 2600)), b"\xff" * 2600, 0.1)),
        RemoteProtocolError,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_message_is_refused_unpaid(parties: Parties, name: str) -> None:
    (site,) = parties.sites
    data, error = REFUSED[name]
    site.start()

    with pytest.raises(error, match=r"^[^\n]*$"):
        site.handle(data)

    assert parties.ledgers[0].charges == []
    assert len(site.handle(wire.encode(START))) == 1


def test_a_round_is_answered_once(parties: Parties) -> None:
    (site,) = parties.sites
    site.start()
    site.handle(wire.encode(START))

    with pytest.raises(RemoteProtocolError, match="round 1 was started; expected one after 1"):
        site.handle(wire.encode(START))

    assert parties.ledgers[0].count() == 1


def test_a_restarted_site_refuses_what_its_ledger_has_a_charge_of(parties: Parties) -> None:
    (site,) = parties.sites
    site.start()
    site.handle(wire.encode(START))

    again = SiteRunner(parties.parts[0])
    again.start()

    with pytest.raises(RemoteProtocolError, match="round 1 was started; expected one after 1"):
        again.handle(wire.encode(START))
    assert parties.ledgers[0].count() == 1


def test_a_charge_that_is_not_durable_lets_nothing_leave_and_a_retry_is_refused(
    parties: Parties, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site,) = parties.sites
    site.start()

    def full(_: object) -> Receipt:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patched:
        patched.setattr(parties.ledgers[0], "append", full)
        with pytest.raises(OSError, match="no space"):
            site.handle(wire.encode(START))

    with pytest.raises(RemoteProtocolError, match="expected one after 1"):
        site.handle(wire.encode(START))
    assert parties.ledgers[0].count() == 0


def test_a_message_before_the_start_is_out_of_turn(parties: Parties) -> None:
    with pytest.raises(OutOfTurn):
        parties.sites[0].handle(wire.encode(START))


def test_what_a_site_brings_never_shows_its_key_or_records(parties: Parties) -> None:
    part = parties.parts[0]

    shown = repr(part)

    assert repr(part.terms.identity) not in shown
    assert "tensor" not in shown


Decode = Callable[[bytes], object]


def test_messages_decode_only_in_their_direction(parties: Parties) -> None:
    (ready,) = parties.sites[0].start()

    with pytest.raises(RemoteProtocolError):
        wire.decode(ready, FROM_COORDINATOR, limit=10_000)

# SPDX-License-Identifier: Apache-2.0
"""The coordinator's driver: what it refuses, what it says of it, and what it counts."""

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest
from tests.adapters.conftest import Parties, gather, make_project

from consilium import wire
from consilium.adapters.coordinator_runner import resumed
from consilium.adapters.dataset import Dataset
from consilium.adapters.embedded import run_embedded
from consilium.federation.coordinator import Finished
from consilium.federation.messages import FROM_SITE, PlainUpdate, Ready
from consilium.federation.traffic import SiteTraffic

JUNK = b"patient-0042 junk"


@pytest.fixture
def parties(digits: Dataset) -> Parties:
    return gather(make_project(), "federated", digits)


def changed(message: bytes, **fields: object) -> bytes:
    """Returns the same message with other fields, well formed."""
    decoded = wire.decode(message, FROM_SITE, limit=10_000)
    return wire.encode(msgspec.structs.replace(decoded, **fields))


# -- Refusals -------------------------------------------------------------------------

REFUSED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "another site's number": (lambda hello: changed(hello, site=1), "message of site 1 on its"),
    "no site's number": (lambda hello: changed(hello, site=-1), "message of site -1 on its"),
    "a wrong signature": (lambda hello: changed(hello, signature=bytes(64)), "is not signed by"),
    "another kind of sum": (lambda _: wire.encode(Ready(0)), "expects another kind of sum"),
    "out of turn": (lambda _: wire.encode(PlainUpdate(0, 1, JUNK)), "PlainUpdate while Gathering"),
    "junk": (lambda _: JUNK, "wire version 112; this side speaks 1"),
    "junk with a version": (lambda _: b"\x01" + JUNK, "malformed message: "),
    "cut": (lambda hello: hello[:-1], "malformed message: "),
    "longer": (lambda hello: hello + b"\x00", "malformed message: "),
    "empty": (lambda _: b"", "message of 0 bytes; expected 2 to "),
    "oversized": (lambda hello: hello + bytes(10_000), "bytes; expected 2 to "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_message_is_refused_without_its_content(
    parties: Parties, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    spoil, reason = REFUSED[name]
    (hello,) = parties.sites[0].start()

    answers = parties.coordinator.handle(0, spoil(hello))

    (record,) = caplog.records
    assert answers == []
    assert record.getMessage() == "message refused"
    assert reason in record.__dict__["why"]
    assert record.__dict__["site"] == 0
    assert JUNK.decode() not in str(record.__dict__)


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_message_costs_its_site_nothing_later(parties: Parties, name: str) -> None:
    hellos = [site.start()[0] for site in parties.sites]

    parties.coordinator.handle(0, REFUSED[name][0](hellos[0]))
    answers = [len(parties.coordinator.handle(site, hello)) for site, hello in enumerate(hellos)]

    assert answers == [0, 0, 0, 8]  # the roster and the wish for prekeys, to four sites


def test_a_repeated_message_is_refused(parties: Parties, caplog: pytest.LogCaptureFixture) -> None:
    (hello,) = parties.sites[0].start()

    parties.coordinator.handle(0, hello)
    parties.coordinator.handle(0, hello)

    assert [record.__dict__["why"] for record in caplog.records] == [
        "site 0 is unknown or already here"
    ]


# -- A whole run ----------------------------------------------------------------------


def test_every_round_is_saved_and_reported_once(parties: Parties) -> None:
    finished = run_embedded(parties.coordinator, parties.sites, threads=1)

    assert isinstance(finished, Finished)
    assert [progress.round for progress in parties.saved] == [0, 1, 2, 3, 4]
    assert [report.progress.round for report in parties.reports] == [1, 2, 3, 4]
    assert all(report.seconds > 0 for report in parties.reports)


def test_a_progress_is_saved_before_its_round_is_told(parties: Parties) -> None:
    coordinator, hellos = parties.coordinator, [site.start()[0] for site in parties.sites]
    coordinator.handle(0, hellos[0])
    coordinator.handle(1, hellos[1])
    coordinator.handle(2, hellos[2])
    assert parties.saved == []

    told = coordinator.handle(3, hellos[3])

    assert told
    assert [progress.attempts for progress in parties.saved] == [0]


def test_every_byte_is_counted_once(parties: Parties) -> None:
    hellos = [site.start()[0] for site in parties.sites]

    told = [out for k, hello in enumerate(hellos) for out in parties.coordinator.handle(k, hello)]

    down = sum(len(data) for site, data in told if site == 2)
    assert parties.coordinator.traffic()[0, 2] == SiteTraffic(len(hellos[2]), down)
    assert set(parties.coordinator.traffic()) == {(0, 0), (0, 1), (0, 2), (0, 3)}


def test_refused_bytes_are_counted_too(parties: Parties) -> None:
    parties.coordinator.handle(1, JUNK)

    assert parties.coordinator.traffic() == {(0, 1): SiteTraffic(len(JUNK), 0)}


# -- Resuming -------------------------------------------------------------------------


@pytest.mark.parametrize(("charges", "attempts"), [(0, 5), (5, 5), (7, 7)])
def test_a_round_that_a_site_paid_for_counts(parties: Parties, charges: int, attempts: int) -> None:
    run_embedded(parties.coordinator, parties.sites, threads=1)
    progress = replace(parties.saved[-1], attempts=5)

    assert resumed(progress, charges).attempts == attempts

# SPDX-License-Identifier: Apache-2.0
"""Hellos: signed by their site, for this job, with a usable key."""

from dataclasses import replace

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.secagg.conftest import make_identities, make_job, secret

from consilium.errors import RemoteProtocolError
from consilium.secagg import keys
from consilium.secagg.messages import Hello
from consilium.secagg.session import check_hello, check_sites, make_session, say_hello

JOB = make_job(5, 4, 1)
IDENTITIES = make_identities(5)
KEY = keys.public_key(secret("begin"))
HELLOS = [say_hello(JOB, site, identity, KEY) for site, identity in enumerate(IDENTITIES)]

REFUSED = {
    "substituted key": msgspec.structs.replace(HELLOS[0], key=keys.public_key(secret("other"))),
    "another site": msgspec.structs.replace(HELLOS[0], site=1),
    "a stranger": msgspec.structs.replace(HELLOS[0], site=5),
    "a negative site": msgspec.structs.replace(HELLOS[0], site=-1),
    "another identity": say_hello(JOB, 0, IDENTITIES[1], KEY),
    "another job": say_hello(replace(JOB, terms=bytes(32)), 0, IDENTITIES[0], KEY),
    "a key of zeros": say_hello(JOB, 0, IDENTITIES[0], bytes(32)),
    "a short key": say_hello(JOB, 0, IDENTITIES[0], KEY[:31]),
    "a short signature": msgspec.structs.replace(HELLOS[0], signature=HELLOS[0].signature[:63]),
    "no signature": msgspec.structs.replace(HELLOS[0], signature=b""),
}


@pytest.mark.parametrize("site", range(5))
def test_an_honest_hello_passes(site: int) -> None:
    check_hello(JOB, HELLOS[site])


@pytest.mark.parametrize("name", REFUSED)
def test_a_false_hello_is_refused_by_its_site(name: str) -> None:
    with pytest.raises(RemoteProtocolError) as refusal:
        check_hello(JOB, REFUSED[name])

    assert refusal.value.sender == REFUSED[name].site


def test_a_signature_over_bare_fields_is_refused() -> None:
    bare = Ed25519PrivateKey.from_private_bytes(IDENTITIES[0]).sign(KEY)

    with pytest.raises(RemoteProtocolError, match="not signed by its identity"):
        check_hello(JOB, Hello(0, KEY, bare))


def test_a_session_lists_its_sites() -> None:
    assert make_session(JOB, HELLOS[1:]).sites == (1, 2, 3, 4)


def test_every_hello_is_in_the_digest_of_a_session() -> None:
    other = say_hello(JOB, 4, IDENTITIES[4], keys.public_key(secret("other")))
    rosters = [HELLOS, HELLOS[1:], HELLOS[:4], [*HELLOS[:4], other]]

    digests = {make_session(JOB, hellos).digest for hellos in rosters}

    assert len(digests) == 4


def test_the_job_is_in_the_digest_of_a_session() -> None:
    job = replace(JOB, name="other")
    hellos = [say_hello(job, site, identity, KEY) for site, identity in enumerate(IDENTITIES)]

    assert make_session(job, hellos).digest != make_session(JOB, HELLOS).digest


def test_too_few_hellos_make_no_session() -> None:
    with pytest.raises(RemoteProtocolError, match="list of 3 sites; expected at least 4"):
        make_session(JOB, HELLOS[:3])


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        ((0, 1, 1), "each once, in order"),
        ((1, 0, 2), "each once, in order"),
        ((0, 1, 7), r"\[7\] do not belong"),
        ((0, 1), "list of 2 sites; expected at least 3"),
        ((), "list of 0 sites; expected at least 3"),
    ],
)
def test_a_list_that_breaks_a_rule_is_refused(sites: tuple[int, ...], message: str) -> None:
    with pytest.raises(RemoteProtocolError, match=message):
        check_sites(sites, among=range(5), least=3)

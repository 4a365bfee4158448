# SPDX-License-Identifier: Apache-2.0
"""Hellos: signed by their site, for this job, with a usable key."""

from dataclasses import replace

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.secagg.conftest import make_identities, make_job, secret

from consilium.errors import RemoteProtocolError
from consilium.secagg import keys
from consilium.secagg.agreement import ciphertext_for, session_key
from consilium.secagg.messages import Hello
from consilium.secagg.session import (
    bind_ciphertexts,
    check_ciphertexts,
    check_hello,
    check_sites,
    make_session,
    say_ciphertexts,
    say_hello,
)

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


# -- Hellos of a post-quantum job -----------------------------------------------------

HYBRID = replace(JOB, post_quantum=True)
BOTH = session_key(HYBRID, secret("begin"))
HYBRID_HELLOS = [
    say_hello(HYBRID, site, identity, BOTH) for site, identity in enumerate(IDENTITIES)
]
HYBRID_REFUSED = {
    "no ML-KEM key": say_hello(HYBRID, 0, IDENTITIES[0], BOTH[:32]),
    "a short ML-KEM key": say_hello(HYBRID, 0, IDENTITIES[0], BOTH[:-1]),
    "a long ML-KEM key": say_hello(HYBRID, 0, IDENTITIES[0], BOTH + b"0"),
    "no ML-KEM key at all": say_hello(HYBRID, 0, IDENTITIES[0], BOTH[:32] + b"\xff" * 1184),
    "an X25519 key of zeros": say_hello(HYBRID, 0, IDENTITIES[0], bytes(32) + BOTH[32:]),
    "a substituted ML-KEM key": msgspec.structs.replace(
        HYBRID_HELLOS[0], key=BOTH[:32] + session_key(HYBRID, secret("hostile"))[32:]
    ),
    "a hello of the same job without ML-KEM": HELLOS[0],
}


def test_an_honest_hello_of_a_hybrid_job_passes() -> None:
    check_hello(HYBRID, HYBRID_HELLOS[0])


@pytest.mark.parametrize("name", HYBRID_REFUSED)
def test_a_false_hello_of_a_hybrid_job_is_refused_by_its_site(name: str) -> None:
    with pytest.raises(RemoteProtocolError) as refusal:
        check_hello(HYBRID, HYBRID_REFUSED[name])

    assert refusal.value.sender == 0


def test_a_job_without_ml_kem_takes_no_such_key() -> None:
    with pytest.raises(RemoteProtocolError, match=r"no usable key; expected X25519$"):
        check_hello(JOB, say_hello(JOB, 0, IDENTITIES[0], BOTH))


# -- Ciphertexts ----------------------------------------------------------------------

ROSTER = make_session(HYBRID, HYBRID_HELLOS)
SAID = [
    say_ciphertexts(ROSTER, site, identity, bytes([site]) * 1088 * (4 - site))
    for site, identity in enumerate(IDENTITIES)
]
OLDER = make_session(
    HYBRID,
    [
        say_hello(HYBRID, 0, IDENTITIES[0], session_key(HYBRID, secret("older"))),
        *HYBRID_HELLOS[1:],
    ],
)
TEXT = SAID[1].ciphertexts
REFUSED_CIPHERTEXTS = {
    "swapped": msgspec.structs.replace(SAID[1], ciphertexts=bytes(1088) + TEXT[1088:]),
    "of another site": msgspec.structs.replace(SAID[1], site=2, ciphertexts=TEXT[1088:]),
    "of a stranger": msgspec.structs.replace(SAID[1], site=5),
    "of nobody": msgspec.structs.replace(SAID[1], site=-1),
    "of another session": say_ciphertexts(OLDER, 1, IDENTITIES[1], TEXT),
    "of fewer sites": say_ciphertexts(ROSTER, 1, IDENTITIES[1], TEXT[1088:]),
    "of more sites": say_ciphertexts(ROSTER, 1, IDENTITIES[1], TEXT + bytes(1088)),
    "cut short": say_ciphertexts(ROSTER, 1, IDENTITIES[1], TEXT[:-1]),
    "of the last, in another's name": msgspec.structs.replace(
        say_ciphertexts(ROSTER, 4, IDENTITIES[3], SAID[3].ciphertexts), site=3
    ),
    "signed by another": say_ciphertexts(ROSTER, 1, IDENTITIES[0], TEXT),
    "not signed": msgspec.structs.replace(SAID[1], signature=b""),
}


@pytest.mark.parametrize("site", range(5))
def test_honest_ciphertexts_pass(site: int) -> None:
    check_ciphertexts(ROSTER, SAID[site])


@pytest.mark.parametrize("name", REFUSED_CIPHERTEXTS)
def test_false_ciphertexts_are_refused_by_their_site(name: str) -> None:
    with pytest.raises(RemoteProtocolError) as refusal:
        check_ciphertexts(ROSTER, REFUSED_CIPHERTEXTS[name])

    assert refusal.value.sender == REFUSED_CIPHERTEXTS[name].site


@pytest.mark.parametrize("name", REFUSED_CIPHERTEXTS)
def test_a_table_with_false_ciphertexts_makes_no_session(name: str) -> None:
    with pytest.raises(RemoteProtocolError):
        bind_ciphertexts(ROSTER, [SAID[0], REFUSED_CIPHERTEXTS[name], *SAID[3:]])


def test_each_site_finds_its_own_ciphertext() -> None:
    rows = [bytes([row]) * 1088 for row in range(3)]
    said = say_ciphertexts(ROSTER, 1, IDENTITIES[1], b"".join(rows))

    assert [ciphertext_for(site, ROSTER.sites, said) for site in (2, 3, 4)] == rows


def test_a_hybrid_session_lists_the_sites_that_sent_ciphertexts() -> None:
    assert bind_ciphertexts(ROSTER, SAID[1:]).sites == (1, 2, 3, 4)


def test_every_ciphertext_is_in_the_digest_of_a_hybrid_session() -> None:
    other = say_ciphertexts(ROSTER, 0, IDENTITIES[0], bytes(4 * 1088 - 1) + b"1")
    tables = [SAID, SAID[1:], SAID[:4], [other, *SAID[1:]]]

    digests = {bind_ciphertexts(ROSTER, table).digest for table in tables}

    assert len(digests | {ROSTER.digest}) == 5


def test_the_roster_is_in_the_digest_of_a_hybrid_session() -> None:
    texts = [said.ciphertexts for said in SAID]
    again = [say_ciphertexts(OLDER, k, IDENTITIES[k], text) for k, text in enumerate(texts)]

    assert bind_ciphertexts(OLDER, again).digest != bind_ciphertexts(ROSTER, SAID).digest


def test_too_few_ciphertexts_make_no_session() -> None:
    with pytest.raises(RemoteProtocolError, match="list of 3 sites; expected at least 4"):
        bind_ciphertexts(ROSTER, SAID[:3])


# -- Sessions -------------------------------------------------------------------------


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

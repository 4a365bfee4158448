# SPDX-License-Identifier: Apache-2.0
"""Messages on the wire: they round-trip, nothing malformed passes, bytes never show."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium import wire
from consilium.errors import RemoteProtocolError
from consilium.secagg.messages import (
    FROM_COORDINATOR,
    FROM_SITE,
    Ciphertexts,
    CiphertextTable,
    FromCoordinator,
    FromSite,
    Hello,
    Opening,
    Plan,
    Prekeys,
    Roster,
    Survivors,
    Upload,
)

LIMIT = 10_000
numbers = st.integers(0, 2**63)
raw = st.binary(max_size=40)
lists = st.lists(st.integers(0, 300), max_size=20).map(tuple)
hellos = st.builds(Hello, numbers, raw, raw)
prekeys = st.builds(Prekeys, numbers, numbers, raw, raw, raw, raw, raw)
openings = st.builds(Opening, numbers, numbers, raw, raw, raw, raw)
uploads = st.builds(Upload, numbers, numbers, raw.map(memoryview), st.none() | prekeys)
ciphertexts = st.builds(Ciphertexts, numbers, raw, raw)
tables = st.builds(CiphertextTable, st.lists(ciphertexts, max_size=3).map(tuple))
rosters = st.builds(Roster, st.lists(hellos, max_size=3).map(tuple))


@given(hellos | ciphertexts | prekeys | uploads | openings)
def test_messages_of_sites_round_trip(message: FromSite) -> None:
    assert wire.decode(wire.encode(message), FROM_SITE, limit=LIMIT) == message


@given(
    rosters | tables | st.builds(Plan, numbers, lists, raw) | st.builds(Survivors, numbers, lists)
)
def test_messages_of_the_coordinator_round_trip(message: FromCoordinator) -> None:
    assert wire.decode(wire.encode(message), FROM_COORDINATOR, limit=LIMIT) == message


UPLOAD = Upload(1, 2, memoryview(b"vector"), Prekeys(1, 3, b"a", b"b", b"c", b"d", b"e"))
ENCODED = wire.encode(UPLOAD)


@pytest.mark.parametrize("size", range(len(ENCODED)))
def test_a_truncated_message_is_refused(size: int) -> None:
    with pytest.raises(RemoteProtocolError):
        wire.decode(ENCODED[:size], FROM_SITE, limit=LIMIT)


@pytest.mark.parametrize(
    "data",
    [
        ENCODED + b"\0",
        ENCODED.replace(b"\xa6Upload", b"\xd9\x06Upload"),
        ENCODED.replace(b"\xa6Upload", b"\xa6Unload"),
        wire.encode(Survivors(1, (0, 1))),
        b"\x02" + ENCODED[1:],
    ],
    ids=["trailing byte", "second spelling", "unknown name", "wrong direction", "other version"],
)
def test_what_is_not_a_message_of_a_site_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        wire.decode(data, FROM_SITE, limit=LIMIT)


def test_an_oversized_message_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match=f"{len(ENCODED)} bytes; expected 2 to 10"):
        wire.decode(ENCODED, FROM_SITE, limit=10)


def test_bytes_show_as_their_size() -> None:
    shown = repr(UPLOAD)

    assert shown == (
        "Upload(site=1, round=2, vector=<6 bytes>, prekeys=Prekeys(site=1, round=3, "
        "self_shares=<1 bytes>, self_commitments=<1 bytes>, pair_shares=<1 bytes>, "
        "pair_commitments=<1 bytes>, envelope=<1 bytes>))"
    )


def test_ciphertexts_show_as_their_size() -> None:
    table = CiphertextTable((Ciphertexts(1, b"secret", b"signed"),))

    assert repr(table) == (
        "CiphertextTable(entries=(Ciphertexts(site=1, ciphertexts=<6 bytes>, "
        "signature=<6 bytes>),))"
    )


def test_bytes_do_not_show_in_pretty_printers() -> None:
    assert ("key", "<3 bytes>") in Hello(0, b"key", b"signature").__rich_repr__()

# SPDX-License-Identifier: Apache-2.0
"""Junk, and real messages with bytes changed: every decoder and every party refuses by name."""

import traceback
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.msgpack import Decoder
from tests.secagg.conftest import MODEL, Play, make_identities, make_job, make_vectors, secret
from tests.secagg.test_coordinator import EVENTS as TOLD
from tests.secagg.test_coordinator import STATES as AT_COORDINATOR
from tests.secagg.test_site import EVENTS as MET
from tests.secagg.test_site import STATES as AT_SITE

from consilium import wire
from consilium.adapters.randomness import encapsulate
from consilium.errors import ProtocolError, RemoteProtocolError
from consilium.federation import messages as training
from consilium.secagg import keys
from consilium.secagg.coordinator import coordinator_step
from consilium.secagg.messages import (
    FROM_COORDINATOR,
    FROM_SITE,
    Ciphertexts,
    CiphertextTable,
    Hello,
    Opening,
    Plan,
    Prekeys,
    Roster,
    Survivors,
    Upload,
)
from consilium.secagg.site import (
    Contribute,
    Encapsulate,
    Joined,
    Open,
    SiteEvent,
    Uploaded,
    site_step,
)

bounded = settings(deadline=None, max_examples=150, derandomize=True)
LIMIT = 20_000
DECODERS: tuple[Decoder[wire.Message], ...] = (
    FROM_SITE,
    FROM_COORDINATOR,
    training.FROM_SITE,
    training.FROM_COORDINATOR,
)  # type: ignore[assignment]  # each decodes a union of messages
OF_SITES = [
    m for m in TOLD.values() if isinstance(m, Hello | Ciphertexts | Prekeys | Upload | Opening)
]
OF_COORDINATOR = [
    Play(make_job(3, 3, 1)).introduce(),
    *[m for m in MET.values() if isinstance(m, Roster | CiphertextTable)],
    Plan(5, (0, 1, 2), MODEL),
    Survivors(2, (0, 1, 2)),
]

edits = st.lists(
    st.tuples(st.sampled_from(["flip", "cut", "insert"]), st.integers(0), st.integers(1, 255)),
    min_size=1,
    max_size=4,
)


def edited(data: bytes, changes: list[tuple[str, int, int]]) -> bytes:
    """Returns the bytes with each change made in turn."""
    out = bytearray(data)
    for kind, place, value in changes:
        at = place % max(1, len(out))
        if kind == "flip" and out:
            out[at] ^= value
        elif kind == "cut":
            del out[at : at + value % 9]
        else:
            out[at:at] = bytes([value])
    return bytes(out)


@bounded
@given(st.sampled_from(DECODERS), st.binary(max_size=300), st.booleans())
def test_junk_is_refused_or_is_its_own_encoding(
    decoder: Decoder[wire.Message], junk: bytes, versioned: bool
) -> None:
    data = bytes([wire.VERSION]) + junk if versioned else junk
    with suppress(RemoteProtocolError):
        assert wire.encode(wire.decode(data, decoder, limit=LIMIT)) == data


@bounded
@given(st.sampled_from(OF_SITES + OF_COORDINATOR), st.sampled_from(DECODERS), edits)
def test_a_message_with_bytes_changed_is_refused_or_is_its_own_encoding(
    message: wire.Message, decoder: Decoder[wire.Message], changes: list[tuple[str, int, int]]
) -> None:
    data = edited(wire.encode(message), changes)
    with suppress(RemoteProtocolError):
        assert wire.encode(wire.decode(data, decoder, limit=LIMIT)) == data


@bounded
@given(st.sampled_from(sorted(AT_COORDINATOR)), st.sampled_from(OF_SITES), edits)
def test_the_coordinator_steps_or_refuses_whatever_decodes(
    state: str, message: wire.Message, changes: list[tuple[str, int, int]]
) -> None:
    with suppress(ProtocolError):
        data = edited(wire.encode(message), changes)
        coordinator_step(AT_COORDINATOR[state], wire.decode(data, FROM_SITE, limit=LIMIT))


@bounded
@given(st.sampled_from(sorted(AT_SITE)), st.sampled_from(OF_COORDINATOR), edits)
def test_a_site_steps_or_refuses_whatever_decodes(
    state: str, message: wire.Message, changes: list[tuple[str, int, int]]
) -> None:
    with suppress(ProtocolError):
        data = edited(wire.encode(message), changes)
        match wire.decode(data, FROM_COORDINATOR, limit=LIMIT):
            case Roster() as roster:
                site_step(AT_SITE[state], roster)
                site_step(AT_SITE[state], Encapsulate(roster, encapsulate))
            case CiphertextTable() as table:
                site_step(AT_SITE[state], table)
            case Plan() as plan:
                vector = make_vectors(make_job(3, 3, 1))[0]
                site_step(AT_SITE[state], Contribute(plan=plan, vector=vector))
            case Survivors() as survivors:
                site_step(AT_SITE[state], Open(survivors=survivors, secret=secret("open")))


@bounded
@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=6).map(tuple),
    st.integers(-(2**63), 2**63 - 1),
)
def test_numbers_of_any_size_are_refused_by_name(sites: tuple[int, ...], number: int) -> None:
    vector = make_vectors(make_job(3, 3, 1))[0]
    with suppress(ProtocolError):
        site_step(AT_SITE["joined"], Contribute(plan=Plan(number, sites, MODEL), vector=vector))
    with suppress(ProtocolError):
        ask = Open(survivors=Survivors(number, sites), secret=secret("open"))
        site_step(AT_SITE["uploaded"], ask)


def secrets_of(state: Joined) -> list[bytes]:
    """Returns every secret in a state, and what is made of it."""
    chains = list(state.chains.values())
    own = [value.to_bytes(32, "big") for value in state.prepared.values()]
    return [*chains, *own, *make_identities(3), *(keys.root(chain) for chain in chains)]


@pytest.mark.parametrize("refused", ["plan", "survivors", "secret", "vector"])
def test_no_secret_is_in_a_traceback(refused: str) -> None:
    uploaded = AT_SITE["uploaded"]
    assert isinstance(uploaded, Uploaded)
    vector = make_vectors(make_job(3, 3, 1))[0]
    events: dict[str, SiteEvent] = {
        "plan": Contribute(plan=Plan(1, (0, 1, 2), MODEL), vector=vector),
        "survivors": Open(survivors=Survivors(2, (0, 1)), secret=secret("open")),
        "secret": Open(survivors=Survivors(2, (0, 1, 2)), secret=secret("open")[:31]),
        "vector": Contribute(plan=Plan(5, (0, 1, 2), MODEL), vector=vector[:1]),
    }

    with pytest.raises(ProtocolError) as refusal:
        site_step(uploaded, events[refused])

    shown = refused != "secret"  # what a caller gave wrongly is among the caller's own locals
    found = traceback.TracebackException.from_exception(refusal.value, capture_locals=shown)
    text = "".join(found.format())
    hidden = [*secrets_of(uploaded.joined), secret("open")[:31], vector.tobytes()]
    assert not [value for value in hidden if value.hex() in text or repr(value)[2:-1] in text]
    assert not [value for value in uploaded.joined.prepared.values() if str(value) in text]

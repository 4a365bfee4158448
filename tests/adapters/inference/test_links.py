# SPDX-License-Identifier: Apache-2.0
"""Links: whatever a party sends is understood or refused, in time; nothing waits for ever."""

import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.adapters.inference.parties import free_port
from tests.inference.programs import every_step

from consilium import wire
from consilium.adapters.inference.computing import Operator
from consilium.adapters.inference.kit import Address, Operators, make_kits, tls
from consilium.adapters.inference.links import LARGEST, Link, LinkBroken, Listener, dial
from consilium.adapters.inference.talk import (
    HEARD,
    REPLY,
    REQUEST,
    AskStatus,
    Done,
    Meet,
    PutModel,
    Refused,
    Revoke,
    Status,
)
from consilium.errors import ConfigError, ProtocolError, RemoteProtocolError
from consilium.inference.messages import Exchange, MaskSeed, Material, ModelShare, WeightOpening
from consilium.wire import Message

PROGRAM = every_step()
NAME = b"n" * 32


@dataclass(slots=True)
class Place:
    kits: Path
    addresses: tuple[Address, Address]
    operator: Operator


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Operator 1, alone."""
    folder = tmp_path_factory.mktemp("links")
    first, second = (Address("127.0.0.1", free_port(), free_port()) for _ in (0, 1))
    make_kits(folder / "kits", Operators((first, second)))
    operator = Operator(folder / "kits" / "operator-1", folder / "data", 1)
    yield Place(folder / "kits", (first, second), operator)
    operator.close()


def called(place: Place, role: str) -> Link:
    return dial(place.kits / role, place.addresses[1], "operator-1")


def answer(place: Place, role: str, message: Message) -> object:
    with called(place, role) as link:
        link.say(message)
        return link.hear(REPLY, 10.0)


# -- Who may say what -----------------------------------------------------------------

REQUESTS: tuple[Message, ...] = (
    PutModel(ModelShare(NAME, PROGRAM, b""), b"{}"),
    Revoke(NAME),
    AskStatus(),
    MaskSeed(NAME, bytes(32)),
    Material(NAME, 0, bytes(32), b""),
    WeightOpening(NAME, b""),
    Meet(NAME, bytes(16), (0,)),
    Exchange(bytes(16), 1, b""),
)
ALLOWED = {
    "owner": (PutModel, Revoke),
    "dealer": (AskStatus, MaskSeed, Material),
    "operator-0": (WeightOpening, Meet),
    "operator-1": (),
}


@pytest.mark.parametrize("role", ALLOWED)
@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: type(one).__name__)
def test_every_role_and_request_is_as_the_table_says(
    place: Place, role: str, request_: Message
) -> None:
    said = answer(place, role, request_)

    if isinstance(request_, ALLOWED[role]):
        assert isinstance(said, Status | Refused)
        assert "may not ask" not in repr(said)
    else:
        assert said == Refused(f"{role} may not ask for {type(request_).__name__}")


@pytest.mark.parametrize(
    ("role", "message", "words"),
    [
        ("owner", PutModel(ModelShare(NAME, PROGRAM, b"few"), b"{}"), "3 bytes of weights"),
        ("owner", PutModel(ModelShare(b"short", PROGRAM, b""), b"{}"), "publish the model anew"),
        ("owner", Revoke(NAME), "no such model here"),
        ("dealer", Material(NAME, 0, bytes(32), b""), "no such model here"),
        ("operator-0", Meet(NAME, bytes(16), ()), "no such model here"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_reason(
    place: Place, role: str, message: Message, words: str
) -> None:
    said = answer(place, role, message)

    assert isinstance(said, Refused)
    assert words in said.reason
    assert place.operator.shelf.all() == ()


def test_a_certificate_of_another_authority_is_nobody(place: Place, tmp_path: Path) -> None:
    make_kits(tmp_path / "kits", Operators(place.addresses))

    with pytest.raises(LinkBroken, match="does not answer"):
        dial(tmp_path / "kits" / "operator-0", place.addresses[1], "operator-1")


def test_without_a_certificate_nobody_is_heard(place: Place) -> None:
    context = ssl.create_default_context(cafile=str(place.kits / "authority.pem"))
    link = raw(place, context)
    with suppress(LinkBroken):  # TLS 1.3: the refusal may come before or after
        link.say(AskStatus())

    with pytest.raises(LinkBroken):
        link.hear(REPLY, 5.0)
    link.close()


def raw(place: Place, context: ssl.SSLContext) -> Link:
    plain = socket.create_connection((place.addresses[1].host, place.addresses[1].link), 5.0)
    return Link(context.wrap_socket(plain, server_hostname="127.0.0.1"), "operator-1")


def test_a_kit_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="copy the whole kit again"):
        tls(tmp_path, server=True)


# -- What is heard --------------------------------------------------------------------


@pytest.fixture
def pair(place: Place) -> Iterator[tuple[Link, list[Link]]]:
    """A link of the owner's, and the other end of it."""
    port, heard = free_port(), list[Link]()
    wait = threading.Event()

    def serve(link: Link) -> None:
        heard.append(link)
        wait.wait(20)

    listener = Listener(place.kits / "operator-1", port, serve)
    made = dial(place.kits / "owner", Address("127.0.0.1", port, 9), "operator-1")
    while not heard:
        time.sleep(0.01)
    yield made, heard
    wait.set()
    made.close()
    listener.close()


def test_a_large_message_goes_both_ways_at_once(pair: tuple[Link, list[Link]]) -> None:
    here, there = pair[0], pair[1][0]
    data = Exchange(bytes(16), 1, bytes(8 << 20))
    here.say(data)
    there.say(data)

    def listen() -> None:
        assert there.hear(HEARD) == data
        there.flush()

    thread = threading.Thread(target=listen)
    thread.start()
    assert here.hear(HEARD) == data
    here.flush()
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (struct.pack("<Q", LARGEST + 1), "announces"),
        (struct.pack("<Q", 2**64 - 1), "announces"),
        (struct.pack("<Q", 0), "message of 0 bytes"),
        (struct.pack("<Q", 5) + b"12345", "wire version"),
        (struct.pack("<Q", 100) + b"12345", "silent"),
        (b"123", "silent"),
    ],
)
def test_false_bytes_are_refused_in_time(
    pair: tuple[Link, list[Link]], sent: bytes, words: str
) -> None:
    here, there = pair[0], pair[1][0]
    here._out.append(memoryview(sent))
    here.flush()
    start = time.monotonic()

    with pytest.raises(ProtocolError, match=words):
        there.hear(REQUEST, 1.0)

    assert time.monotonic() - start < 5


def test_a_link_that_ended_is_known_to_have(pair: tuple[Link, list[Link]]) -> None:
    here, there = pair[0], pair[1][0]
    assert not here.ended()

    there.abort()
    time.sleep(0.2)

    assert here.ended()
    with pytest.raises(LinkBroken, match="operator-1"):
        here.hear(REPLY, 1.0)


MESSAGES = st.one_of(
    st.builds(Done),
    st.builds(Refused, st.text(max_size=20)),
    st.builds(AskStatus),
    st.builds(Revoke, st.binary(max_size=40)),
    st.builds(MaskSeed, st.binary(max_size=40), st.binary(max_size=40)),
    st.builds(
        Material, st.binary(max_size=40), st.integers(0, 2**63), st.binary(max_size=40), st.binary()
    ),
    st.builds(
        Meet,
        st.binary(max_size=40),
        st.binary(max_size=20),
        st.lists(st.integers(0, 2**40), max_size=5).map(tuple),
    ),
    st.builds(Exchange, st.binary(max_size=20), st.integers(0, 99), st.binary(max_size=40)),
)


@given(MESSAGES, st.data())
def test_damaged_messages_are_refused_or_are_others(message: Message, data: st.DataObject) -> None:
    whole = wire.encode(message)
    at = data.draw(st.integers(0, len(whole) - 1))
    kind = data.draw(st.sampled_from(["cut", "flip", "more"]))
    damaged = {
        "cut": whole[:at],
        "flip": whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :],
        "more": whole + whole[:1],
    }[kind]

    try:
        found = wire.decode(damaged, REQUEST, limit=LARGEST)
    except RemoteProtocolError:
        return
    assert kind == "flip"
    assert wire.encode(found) == damaged


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(list(ALLOWED)), MESSAGES)
def test_no_message_ends_an_operator(place: Place, role: str, message: Message) -> None:
    with called(place, role) as link:
        link.say(message)
        try:
            assert isinstance(link.hear(REPLY, 10.0), Done | Refused | Status)
        except LinkBroken:
            assert isinstance(message, Done | Refused)  # these are no requests

    assert isinstance(answer(place, "dealer", AskStatus()), Status)

# SPDX-License-Identifier: Apache-2.0
"""Tests of the encoding: round trip, one spelling only, and framing that is injective."""

import hashlib
import hmac
from typing import TypeAlias

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.msgpack import Decoder

from consilium.errors import RemoteProtocolError
from consilium.wire import (
    VERSION,
    Message,
    Part,
    array_size,
    binary_size,
    decode,
    derive,
    digest,
    encode,
    frame,
    integer_size,
)


class Greeting(Message, frozen=True):
    sender: int
    body: bytes
    names: tuple[str, ...] = ()


class Farewell(Message, frozen=True):
    sender: int


Either: TypeAlias = Greeting | Farewell
DECODER: Decoder[Either] = Decoder(Greeting | Farewell)
LIMIT = 10_000
GREETING = Greeting(3, b"hello", ("a", "b"))

integers = st.integers(-(2**63), 2**64 - 1)
messages = st.one_of(
    st.builds(
        Greeting, integers, st.binary(max_size=300), st.lists(st.text(max_size=9)).map(tuple)
    ),
    st.builds(Farewell, integers),
)
parts = st.recursive(
    st.one_of(st.binary(max_size=9), st.integers(0, 2**64 - 1)),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=6,
)


def refused(data: bytes, reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason):
        decode(data, DECODER, limit=LIMIT)


# -- Messages -------------------------------------------------------------------------


@given(messages)
def test_a_message_comes_back_as_it_was(message: Either) -> None:
    assert decode(encode(message), DECODER, limit=LIMIT) == message


@given(st.binary(max_size=64))
def test_bytes_that_are_accepted_are_the_encoding_of_what_they_mean(tail: bytes) -> None:
    data = bytes([VERSION]) + tail
    try:
        message = decode(data, DECODER, limit=LIMIT)
    except RemoteProtocolError:
        return

    assert encode(message) == data


@given(messages, st.data())
def test_one_changed_byte_never_gives_the_same_message(
    message: Either, draw: st.DataObject
) -> None:
    data = bytearray(encode(message))
    place = draw.draw(st.integers(0, len(data) - 1))
    data[place] ^= draw.draw(st.integers(1, 255))

    try:
        found = decode(bytes(data), DECODER, limit=LIMIT)
    except RemoteProtocolError:
        return
    assert found != message


def test_the_first_byte_is_the_version() -> None:
    assert encode(GREETING)[0] == VERSION == 1


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version_is_refused(version: int) -> None:
    refused(bytes([version]) + encode(GREETING)[1:], f"wire version {version}")


def test_a_trailing_byte_is_refused() -> None:
    refused(encode(GREETING) + b"\0", "malformed")


@pytest.mark.parametrize("length", range(2, 12))
def test_a_truncated_message_is_refused(length: int) -> None:
    refused(encode(GREETING)[:length], "malformed")


@pytest.mark.parametrize("data", [b"", b"\1"])
def test_a_message_without_a_body_is_refused(data: bytes) -> None:
    refused(data, f"message of {len(data)} bytes")


def test_a_message_at_the_limit_is_accepted_and_one_byte_more_is_not() -> None:
    data = encode(GREETING)

    assert decode(data, DECODER, limit=len(data)) == GREETING
    with pytest.raises(RemoteProtocolError, match=f"expected 2 to {len(data) - 1}"):
        decode(data, DECODER, limit=len(data) - 1)


def test_size_is_checked_before_anything_is_parsed() -> None:
    refused(b"\1" + b"\xc1" * LIMIT, f"message of {LIMIT + 1} bytes")


NOT_CANONICAL = {
    "an integer spelled with two bytes": (b"\x07", b"\xcc\x07"),
    "an integer spelled with nine bytes": (b"\x07", b"\xcf" + bytes(7) + b"\x07"),
    "an integer spelled as a signed one": (b"\x07", b"\xd0\x07"),
    "a name spelled with a longer length": (b"\xa8Farewell", b"\xd9\x08Farewell"),
    "an array spelled with a longer length": (b"\x92", b"\xdc\x00\x02"),
}


@pytest.mark.parametrize("name", NOT_CANONICAL)
def test_a_second_spelling_is_refused(name: str) -> None:
    short, long = NOT_CANONICAL[name]
    data = encode(Farewell(7))
    assert short in data

    refused(data.replace(short, long), "canonical")


MALFORMED: dict[str, object] = {
    "an unknown field": ["Farewell", 7, 8],
    "a missing field": ["Farewell"],
    "an unknown message": ["Stranger", 7],
    "a message of another kind of field": ["Farewell", "7"],
    "a number that is not whole": ["Farewell", 7.5],
    "a map": {"type": "Farewell", "sender": 7},
    "a number": 7,
    "nothing": None,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_message_of_another_form_is_refused(name: str) -> None:
    refused(bytes([VERSION]) + msgspec.msgpack.encode(MALFORMED[name]), "malformed")


def test_a_name_that_is_not_text_is_refused() -> None:
    refused(encode(Farewell(7)).replace(b"Farewell", b"\xffarewell"), "malformed")


def test_deep_nesting_is_refused() -> None:
    refused(bytes([VERSION]) + b"\x91" * 9000, "malformed")


def test_a_field_left_out_for_its_default_is_refused() -> None:
    refused(bytes([VERSION]) + msgspec.msgpack.encode(["Greeting", 3, b"x"]), "canonical")


def test_a_message_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        GREETING.sender = 4  # type: ignore[misc]  # the refusal is the test


# -- Frames ---------------------------------------------------------------------------


@given(st.lists(parts, max_size=4), st.lists(parts, max_size=4))
def test_different_tuples_have_different_frames(first: list[Part], second: list[Part]) -> None:
    assume(first != second)

    assert frame(*first) != frame(*second)


@given(st.lists(parts, min_size=1, max_size=4), st.lists(parts, min_size=1, max_size=4))
def test_no_frame_is_the_start_of_another_with_as_many_parts(
    first: list[Part], second: list[Part]
) -> None:
    assume(first != second and len(first) == len(second))

    assert not frame(*second).startswith(frame(*first))


AMBIGUOUS: list[tuple[tuple[Part, ...], tuple[Part, ...]]] = [
    ((b"ab", b"c"), (b"a", b"bc")),
    ((b"ab",), (b"ab", b"")),
    ((b"", b""), (b"",)),
    ((1,), ((1).to_bytes(8, "big"),)),
    ((b"a", b"b"), ((b"a", b"b"),)),
    (((b"a",), b"b"), ((b"a", b"b"),)),
    ((), ((),)),
    ((frame(b"a"),), ((b"a",),)),
]


@pytest.mark.parametrize(("first", "second"), AMBIGUOUS)
def test_tuples_that_look_alike_have_different_frames(
    first: tuple[Part, ...], second: tuple[Part, ...]
) -> None:
    assert frame(*first) != frame(*second)


def test_text_is_framed_as_its_bytes() -> None:
    assert frame("né") == frame("né".encode())


@pytest.mark.parametrize("number", [-1, 2**64])
def test_an_integer_beyond_64_bits_is_refused(number: int) -> None:
    with pytest.raises(OverflowError):
        frame(number)


# -- Digests and keys -----------------------------------------------------------------


def test_a_digest_is_the_hash_of_a_frame_under_its_purpose() -> None:
    expected = hashlib.sha256(b"consilium/v1/" + frame("roster", b"x", 3)).digest()

    assert digest("roster", b"x", 3) == expected


def test_a_derived_key_is_an_hmac_of_a_frame_under_its_purpose() -> None:
    text = b"consilium/v1/" + frame("mask", b"x", 3)

    assert derive(b"k" * 32, "mask", b"x", 3) == hmac.new(b"k" * 32, text, "sha512").digest()


def test_purpose_and_parts_and_key_all_change_the_result() -> None:
    found = [
        derive(b"k" * 32, "mask", b"x"),
        derive(b"l" * 32, "mask", b"x"),
        derive(b"k" * 32, "masks", b"x"),
        derive(b"k" * 32, "mask", b"y"),
        derive(b"k" * 32, "mask", b"x", b""),
    ]

    assert len({*found, *(row[:32] for row in found)}) == 10
    assert digest("mask", b"x") != digest("masks", b"x") != digest("mask", b"y")


# -- Sizes ----------------------------------------------------------------------------


@given(st.integers(0, 2**64 - 1))
def test_size_of_an_integer_is_that_of_its_encoding(value: int) -> None:
    assert integer_size(value) == len(msgspec.msgpack.encode(value))


@pytest.mark.parametrize("length", [0, 255, 256, 65_535, 65_536])
def test_size_of_a_field_is_that_of_its_encoding(length: int) -> None:
    assert binary_size(length) == len(msgspec.msgpack.encode(bytes(length)))


@pytest.mark.parametrize("count", [0, 15, 16, 65_535, 65_536])
def test_size_in_front_of_an_array_is_that_of_its_encoding(count: int) -> None:
    assert array_size(count) + count == len(msgspec.msgpack.encode([0] * count))

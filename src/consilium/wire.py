# SPDX-License-Identifier: Apache-2.0
"""How values become bytes: one canonical encoding, versions and domain tags.

Messages are frozen `msgspec.Struct`s in MessagePack. `decode` is strict: an unknown or
missing field, a trailing byte, a second spelling of the same value or an oversized message
is refused, so decode(encode(x)) == x and encode(decode(b)) == b. `frame` is an injective
encoding of a tuple for everything that is hashed, signed or derived; each use carries its
own domain tag. Not here: transport, files, pickle.
"""

import hashlib
import hmac
from typing import Final, TypeAlias, TypeVar

import msgspec
from msgspec.msgpack import Decoder

from consilium.errors import RemoteProtocolError

VERSION: Final = 1
_DOMAIN: Final = b"consilium/v1/"

Part: TypeAlias = "bytes | str | int | tuple[Part, ...]"
MessageT = TypeVar("MessageT", bound=msgspec.Struct)


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=True):
    """Base of everything that crosses a wire; the class name is its tag."""


def encode(message: msgspec.Struct) -> bytes:
    """Returns the only encoding of `message`: the version byte, then MessagePack."""
    return bytes([VERSION]) + msgspec.msgpack.encode(message)


def decode(data: bytes, decoder: Decoder[MessageT], *, limit: int) -> MessageT:
    """Returns the message in `data`.

    Args:
        data: What a peer sent.
        decoder: Of the message type, or the union of types, that is allowed here.
        limit: Largest accepted size in bytes; checked before anything is parsed.

    Raises:
        RemoteProtocolError: Oversized, of another version, malformed, or not canonical.
    """
    if not 1 < len(data) <= limit:
        raise RemoteProtocolError(f"message of {len(data)} bytes; expected 2 to {limit}")
    if data[0] != VERSION:
        raise RemoteProtocolError(f"wire version {data[0]}; this side speaks {VERSION}")
    try:
        message = decoder.decode(memoryview(data)[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"malformed message: {type(error).__name__}") from None
    again = bytearray([VERSION])
    msgspec.msgpack.Encoder().encode_into(message, again, 1)
    if again != data:
        raise RemoteProtocolError("message is not in canonical form")
    return message


def frame(*parts: Part) -> bytes:
    """Returns an injective encoding of a tuple: each part with its kind and its length."""
    out = bytearray()
    for part in parts:
        if isinstance(part, tuple):
            kind, raw = b"t", frame(*part)
        elif isinstance(part, int):
            kind, raw = b"i", part.to_bytes(8, "big")
        else:
            kind, raw = b"b", part.encode() if isinstance(part, str) else bytes(part)
        out += kind + len(raw).to_bytes(8, "big") + raw
    return bytes(out)


def digest(purpose: str, *parts: Part) -> bytes:
    """Returns the SHA-256 of `parts` under the domain tag of `purpose`, 32 bytes."""
    return hashlib.sha256(_DOMAIN + frame(purpose, *parts)).digest()


def derive(key: bytes, purpose: str, *parts: Part) -> bytes:
    """Returns 64 bytes that only a holder of `key` can tell from random ones: HMAC-SHA-512."""
    return hmac.digest(key, _DOMAIN + frame(purpose, *parts), "sha512")


# -- Sizes ----------------------------------------------------------------------------
# Of MessagePack values, so that traffic can be predicted to the byte. Source: the MessagePack
# specification, formats int, bin, str and array.


def integer_size(value: int) -> int:
    """Returns the bytes of a non-negative integer below 2**64."""
    for size, limit in ((1, 2**7), (2, 2**8), (3, 2**16), (5, 2**32)):
        if value < limit:
            return size
    return 9


def binary_size(length: int) -> int:
    """Returns the bytes of a field of `length` bytes."""
    return length + (2 if length < 2**8 else 3 if length < 2**16 else 5)


def array_size(count: int) -> int:
    """Returns the bytes in front of an array of `count` values."""
    return 1 if count < 16 else 3 if count < 2**16 else 5


def struct_size(name: str, *fields: int) -> int:
    """Returns the bytes of a message inside another: at most 14 fields, a name of at most 31."""
    return 1 + 1 + len(name) + sum(fields)


def message_size(name: str, *fields: int) -> int:
    """Returns the bytes of a whole message, the version in front."""
    return 1 + struct_size(name, *fields)

# SPDX-License-Identifier: Apache-2.0
"""Messages over TLS between parties: eight bytes of length, then `wire` bytes.

Both ends may speak at once: a thread sends, so that two large messages never wait for each other.
Guarantees: nothing waits longer than the link's time limit; whatever breaks is a `LinkBroken`
that says who.
"""

import queue
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Self, TypeAlias, TypeVar, final

import msgspec
from msgspec.msgpack import Decoder

from consilium import wire
from consilium.adapters.inference.kit import Address, role_of, tls
from consilium.errors import ProtocolError
from consilium.wire import Message

PATIENCE: Final = 30.0  # seconds for any one message
LARGEST: Final = 1 << 30
MessageT = TypeVar("MessageT", bound=msgspec.Struct)


@final
class LinkBroken(ProtocolError):
    """A party cannot be reached, or stopped."""


@final
class Link:
    """One connection; `peer` is the role that the other end proved."""

    def __init__(self, made: ssl.SSLSocket, peer: str) -> None:
        self.peer = peer
        self.sent = 0
        self.messages = 0
        self._socket = made
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._send_all, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def say(self, message: Message) -> None:
        """Sends a message, without waiting for it to go."""
        data = wire.encode(message)
        self.sent += len(data) + 8
        self.messages += 1
        self._queue.put(struct.pack("<Q", len(data)) + data)

    def hear(self, decoder: Decoder[MessageT], patience: float = PATIENCE) -> MessageT:
        """Returns the next message.

        Raises:
            LinkBroken: The other end stopped, or is silent for too long.
            RemoteProtocolError: It said something else.
        """
        self._socket.settimeout(patience)
        (size,) = struct.unpack("<Q", self._take(8))
        if size > LARGEST:
            raise LinkBroken(f"{self.peer} announces {size} bytes; expected at most {LARGEST}")
        return wire.decode(bytes(self._take(size)), decoder, limit=LARGEST)

    def close(self) -> None:
        """Sends what is left and closes."""
        self._queue.put(None)
        self._thread.join(timeout=2)
        self._socket.close()

    def abort(self) -> None:
        """Ends the connection at once, whoever waits on it."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _take(self, size: int) -> bytearray:
        data = bytearray(size)
        view, at = memoryview(data), 0
        try:
            while at < size:
                count = self._socket.recv_into(view[at:])
                if not count:
                    raise LinkBroken(f"{self.peer} ended the connection; ask again")
                at += count
        except TimeoutError:
            raise LinkBroken(f"{self.peer} is silent; ask again, or look after it") from None
        except OSError as error:
            raise LinkBroken(f"{self.peer}: {error}; ask again") from None
        return data

    def _send_all(self) -> None:
        while (data := self._queue.get()) is not None:
            try:
                self._socket.sendall(data)
            except OSError:
                return


def dial(kit: Path, address: Address, peer: str, patience: float = 5.0) -> Link:
    """Returns a link to the operator at `address`, which must be `peer`.

    Raises:
        LinkBroken: Nobody answers there, or somebody else.
    """
    context = tls(kit, server=False)
    try:
        plain = socket.create_connection((address.host, address.link), timeout=patience)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made = context.wrap_socket(plain, server_hostname=address.host)
    except OSError as error:
        raise LinkBroken(
            f"{peer} at {address.host}:{address.link} does not answer ({error}); start it, or "
            "correct operators.json"
        ) from None
    found = role_of(made.getpeercert())
    if found != peer:
        made.close()
        raise LinkBroken(f"{address.host}:{address.link} is {found!r}; expected {peer}")
    return Link(made, found)


Serve: TypeAlias = Callable[[Link], None]


def listen(kit: Path, port: int, serve: Serve, host: str = "0.0.0.0") -> socket.socket:  # noqa: S104
    """Starts to serve every party that connects, each on a thread; returns the socket."""
    context = tls(kit, server=True)
    plain = socket.create_server((host, port), backlog=64)

    def accept() -> None:
        while True:
            try:
                taken, _ = plain.accept()
            except OSError:
                return
            threading.Thread(target=_greet, args=(context, taken, serve), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return plain


def _greet(context: ssl.SSLContext, taken: socket.socket, serve: Serve) -> None:
    taken.settimeout(5.0)
    try:
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made = context.wrap_socket(taken, server_side=True)
    except OSError:
        taken.close()
        return
    with Link(made, role_of(made.getpeercert())) as link:
        serve(link)

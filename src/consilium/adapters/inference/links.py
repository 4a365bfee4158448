# SPDX-License-Identifier: Apache-2.0
"""Messages over TLS between parties: eight bytes of length, then `wire` bytes.

Both ends may speak at once: who waits for a message also sends, so that two large ones never wait
for each other.
Guarantees: nothing waits longer than the link's time limit; whatever breaks is a `LinkBroken`
that says who.
"""

import select
import socket
import ssl
import struct
import threading
import time
from collections import deque
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
CHUNK: Final = 1 << 18  # bytes
ENDING: Final = 12.0  # seconds that the end of a thread is waited for
_GREETING: Final = 5.0
MessageT = TypeVar("MessageT", bound=msgspec.Struct)


@final
class LinkBroken(ProtocolError):
    """A party cannot be reached, or stopped."""


@final
class Link:
    """One connection, for one thread at a time; `peer` is the role that the other end proved.

    One thread both sends and receives: OpenSSL's connections are not safe for two.
    """

    def __init__(self, made: ssl.SSLSocket, peer: str) -> None:
        self.peer = peer
        self.sent = 0
        self.messages = 0
        self._socket = made
        self._socket.setblocking(False)
        self._out: deque[memoryview] = deque()
        self._in = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def say(self, message: Message) -> None:
        """Sends a message; what does not go at once goes with `hear` or `flush`.

        Raises:
            LinkBroken: The other end stopped.
        """
        data = wire.encode(message)
        self.sent += len(data) + 8
        self.messages += 1
        self._out.append(memoryview(struct.pack("<Q", len(data)) + data))
        self._send()

    def hear(self, decoder: Decoder[MessageT], patience: float = PATIENCE) -> MessageT:
        """Returns the next message.

        Raises:
            LinkBroken: The other end stopped, or is silent for too long.
            RemoteProtocolError: It said something else.
        """
        end = time.monotonic() + patience
        (size,) = struct.unpack("<Q", self._take(8, end))
        if size > LARGEST:
            raise LinkBroken(f"{self.peer} announces {size} bytes; expected at most {LARGEST}")
        return wire.decode(self._take(size, end), decoder, limit=LARGEST)

    def flush(self, patience: float = PATIENCE) -> None:
        """Sends all that was said.

        Raises:
            LinkBroken: The other end stopped, or takes nothing for too long.
        """
        end = time.monotonic() + patience
        while self._out:
            self._receive()
            self._send()
            self._wait(end)

    def ended(self) -> bool:
        """Returns whether the other end is known to have ended the connection."""
        try:
            self._receive()
        except LinkBroken:
            return True
        return False

    def close(self) -> None:
        """Sends what is left and closes."""
        with suppress(LinkBroken):
            self.flush(2.0)
        self._socket.close()

    def abort(self) -> None:
        """Ends the connection at once, whoever waits on it."""
        with suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _take(self, size: int, end: float) -> bytes:
        while len(self._in) < size:
            self._send()
            if not self._receive():
                self._wait(end)
        data = bytes(self._in[:size])
        del self._in[:size]
        return data

    def _wait(self, end: float) -> None:
        """Waits until the connection can go on."""
        left = end - time.monotonic()
        if left <= 0:
            raise LinkBroken(f"{self.peer} is silent; ask again, or look after it")
        sending = [self._socket] if self._out else []
        try:
            select.select([self._socket], sending, [], min(left, 1.0))
        except (OSError, ValueError):
            raise LinkBroken(f"{self.peer}: the connection is closed; ask again") from None

    def _receive(self) -> bool:
        """Takes up what has come; returns whether anything had."""
        try:
            data = self._socket.recv(CHUNK)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except (OSError, ValueError) as error:
            raise LinkBroken(f"{self.peer}: {error}; ask again") from None
        if not data:
            raise LinkBroken(f"{self.peer} ended the connection; ask again")
        self._in += data
        return True

    def _send(self) -> None:
        """Sends what goes without waiting."""
        try:
            while self._out:
                count = self._socket.send(self._out[0][:CHUNK])
                self._out[0] = self._out[0][count:]
                if not self._out[0]:
                    self._out.popleft()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except (OSError, ValueError) as error:
            raise LinkBroken(f"{self.peer}: {error}; ask again") from None


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


@final
class Listener:
    """Serves every party that connects, each on a thread, until it is closed."""

    def __init__(self, kit: Path, port: int, serve: Serve, host: str = "0.0.0.0") -> None:  # noqa: S104
        self._context, self._serve = tls(kit, server=True), serve
        self._plain = socket.create_server((host, port), backlog=64)
        self._taken: dict[threading.Thread, socket.socket] = {}
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def close(self) -> None:
        """Stops to listen, and ends every connection and every thread."""
        self._ended.set()
        with suppress(OSError):
            self._plain.shutdown(socket.SHUT_RDWR)
        self._accepting.join(ENDING)
        self._plain.close()
        with self._lock:
            taken = dict(self._taken)
        for one in taken.values():
            with suppress(OSError):
                socket.socket.shutdown(one, socket.SHUT_RDWR)
        for thread in taken:
            thread.join(ENDING)

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                taken, _ = self._plain.accept()
            except OSError:  # also where there are too many connections: these end
                self._ended.wait(0.1)
                continue
            thread = threading.Thread(target=self._greet, args=(taken,), daemon=True)
            with self._lock:
                self._taken[thread] = taken
            thread.start()

    def _greet(self, taken: socket.socket) -> None:
        try:
            made = self._shaken(taken)
            if made is not None:
                with Link(made, role_of(made.getpeercert())) as link:
                    self._serve(link)
        finally:
            with self._lock:
                del self._taken[threading.current_thread()]

    def _shaken(self, taken: socket.socket) -> ssl.SSLSocket | None:
        """Returns the connection once the other end has proved its name, or closes it."""
        taken.settimeout(_GREETING)
        try:
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made = self._context.wrap_socket(taken, server_side=True, do_handshake_on_connect=False)
        except OSError:
            taken.close()
            return None
        with self._lock:
            self._taken[threading.current_thread()] = made
        try:
            made.do_handshake()
        except OSError:
            made.close()
            return None
        return made

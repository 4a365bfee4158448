# SPDX-License-Identifier: Apache-2.0
"""A bad line between a site and the coordinator: late, and cut every few seconds.

A proxy of TCP connections. What is lost inside a connection TCP sends again, which looks like
latency from above; what an application sees of a bad network is this: late bytes, dead ends.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

CHUNK = 1 << 16


@dataclass
class BadLine:
    """Forwards connections to a port of this machine."""

    to: int
    delay: float  # seconds, one way
    life: float  # seconds that a connection lives
    port: int = 0
    cuts: int = 0
    open: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    async def serve(self, ready: threading.Event, end: asyncio.Event) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await end.wait()
        server.close()
        for task in self.open:
            task.cancel()

    async def _accept(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.open.add(task)
        try:
            far, there = await asyncio.open_connection("127.0.0.1", self.to)
            ways = asyncio.gather(self._carry(near, there), self._carry(far, back))
            try:
                await asyncio.wait_for(ways, self.life)
            except TimeoutError:
                self.cuts += 1
            finally:
                there.transport.abort()
        except OSError:
            pass
        finally:
            back.transport.abort()
            self.open.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        async def deliver() -> None:
            while True:
                due, data = await late.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                if not data:
                    return
                writer.write(data)
                await writer.drain()

        delivering = asyncio.create_task(deliver())
        try:
            with suppress(OSError):
                while data := await reader.read(CHUNK):
                    await late.put((loop.time() + self.delay, data))
                await late.put((loop.time() + self.delay, b""))
                await delivering
        finally:
            delivering.cancel()


@contextmanager
def bad_line(to: int, *, delay: float, life: float) -> Iterator[BadLine]:
    """A line that is there until the block ends."""
    line, ready, loop = BadLine(to, delay, life), threading.Event(), asyncio.new_event_loop()
    end = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(line.serve(ready, end)))
    thread.start()
    ready.wait(10)
    try:
        yield line
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(10)
        loop.close()

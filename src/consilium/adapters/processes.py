# SPDX-License-Identifier: Apache-2.0
"""Sites as real processes on one machine, spoken to through pipes; the same bytes as in one.

A frame is four bytes of length, big-endian, then the message. The first frame to a site is its
`Launch`, which holds its private key and never appears on a command line. An answer is a frame
for each message and an empty frame at the end; a frame that starts with `!` says why the site
refused. A site ends when its pipe closes, so nothing outlives the coordinator.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Final, final

import msgspec

from consilium.adapters.dataset import Dataset, make_ready, public_facts, read_named
from consilium.adapters.ledger_file import FileLedger
from consilium.adapters.machine import keep_freed_memory, use_threads
from consilium.adapters.randomness import Source, operating_system
from consilium.adapters.site_runner import SiteParts, SiteRunner
from consilium.errors import ConsiliumError, RemoteProtocolError
from consilium.federation.arms import ARMS
from consilium.federation.project import parse_project
from consilium.federation.setup import make_setup
from consilium.wire import derive

_REFUSAL: Final = b"!"
_MESSAGE: Final = b"+"
_LENGTH_BYTES: Final = 4


class Launch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a site process is told at its start.

    Attributes:
        project: Resolved, as TOML.
        arm: Which arm.
        seed: Of the experiment.
        site: Its number.
        data_folder: Where the datasets lie.
        ledger: Path of its ledger.
        identity: Its Ed25519 private key.
        identities: Every site's public key.
        recorded: Stands for the operating system's randomness in tests; None in earnest.
    """

    project: str
    arm: str
    seed: int
    site: int
    data_folder: str | None
    ledger: str
    identity: bytes
    identities: tuple[bytes, ...]
    recorded: bytes | None = None

    def __repr__(self) -> str:
        """Never shows the key."""
        return f"Launch(arm={self.arm!r}, site={self.site})"


# -- The coordinator's end ------------------------------------------------------------


@final
class ProcessSite:
    """A site behind a pipe."""

    def __init__(self, launch: Launch) -> None:
        self._number = launch.site
        self._process = subprocess.Popen(  # noqa: S603 - our own module, no shell
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        try:
            self._write(msgspec.msgpack.encode(launch))
        except RemoteProtocolError:
            self.close()
            raise

    def start(self) -> list[bytes]:
        """Returns the site's first messages.

        Raises:
            RemoteProtocolError: The site refused or its process ended.
        """
        return self._answers()

    def handle(self, data: bytes) -> list[bytes]:
        """Returns the site's answers to one message.

        Raises:
            RemoteProtocolError: The site refused or its process ended.
        """
        self._write(data)
        return self._answers()

    def close(self) -> None:
        """Ends the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # what it never read
                    pipe.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _write(self, data: bytes) -> None:
        try:
            write_frame(_pipe(self._process.stdin), data)
        except BrokenPipeError:
            raise RemoteProtocolError(
                f"site {self._number}'s process has ended; see its message above", self._number
            ) from None

    def _answers(self) -> list[bytes]:
        answers: list[bytes] = []
        while True:
            frame = read_frame(_pipe(self._process.stdout))
            if frame is None:
                raise RemoteProtocolError(
                    f"site {self._number}'s process ended before it answered", self._number
                )
            if not frame:
                return answers
            if frame[:1] == _REFUSAL:
                raise RemoteProtocolError(
                    f"site {self._number}: {frame[1:].decode()}", self._number
                )
            answers.append(frame[1:])


@contextmanager
def launched(launches: Sequence[Launch]) -> Iterator[tuple[ProcessSite, ...]]:
    """Yields a process for each launch; ends them all, whatever happens."""
    sites: list[ProcessSite] = []
    try:
        for launch in launches:
            sites.append(ProcessSite(launch))  # noqa: PERF401 - those before a failure are ended
        yield tuple(sites)
    finally:
        for site in sites:
            site.close()


# -- Frames ---------------------------------------------------------------------------


def write_frame(pipe: IO[bytes], data: bytes) -> None:
    """Writes one frame and flushes."""
    pipe.write(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
    pipe.flush()


def read_frame(pipe: IO[bytes]) -> bytes | None:
    """Returns the next frame, or None where the pipe has ended."""
    head = pipe.read(_LENGTH_BYTES)
    if len(head) < _LENGTH_BYTES:
        return None
    length = int.from_bytes(head, "big")
    data = pipe.read(length)
    return data if len(data) == length else None


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise TypeError("the process was started without pipes")
    return pipe


# -- The site's end -------------------------------------------------------------------


def make_runner(launch: Launch, stack: ExitStack) -> SiteRunner:
    """Returns the site that `launch` describes; its ledger is closed with `stack`.

    Raises:
        ConsiliumError: Its data or its project cannot be used.
    """
    project = parse_project(launch.project)
    own = project.for_arm(launch.arm)
    folder = None if launch.data_folder is None else Path(launch.data_folder)
    dataset = Dataset(splits=read_named(own.data, folder), duplicates="not compared here")
    federated = ARMS[launch.arm].federated
    ready = make_ready(own, dataset, federated=federated, seed=launch.seed, folder=folder)
    facts = public_facts(ready)
    setup = make_setup(project, launch.arm, facts, launch.identities, launch.seed)
    ledger = FileLedger(Path(launch.ledger), allowed=setup.steps_allowed)
    stack.callback(ledger.close)
    parts = SiteParts(
        terms=setup.for_site(launch.site, launch.identity),
        trainee=ready.trainee(launch.site),
        ledger=ledger,
        source=_source(launch.recorded),
    )
    return SiteRunner(parts)


def _source(recorded: bytes | None) -> Source:
    return operating_system if recorded is None else recorded_source(recorded)


def recorded_source(seed: bytes) -> Source:
    """Returns randomness that can be played again. For tests: it protects nobody."""
    counter = iter(range(2**63))
    return lambda: derive(seed, "recorded randomness", next(counter))[:32]


def serve(source: IO[bytes], sink: IO[bytes]) -> int:
    """Plays one site over two pipes until the first one ends; returns the exit code.

    A site that refuses, or whose disk is full, says so and ends.
    """
    first = read_frame(source)
    if first is None:
        return 2
    try:
        with ExitStack() as stack:
            runner = make_runner(msgspec.msgpack.decode(first, type=Launch), stack)
            _say(sink, runner.start())
            while (frame := read_frame(source)) is not None:
                _say(sink, runner.handle(frame))
    except BrokenPipeError:  # the coordinator is gone
        return 2
    except (ConsiliumError, OSError) as error:
        with suppress(BrokenPipeError):
            write_frame(sink, _REFUSAL + str(error).encode())
        return 2
    return 0


def _say(sink: IO[bytes], answers: Sequence[bytes]) -> None:
    for answer in answers:
        write_frame(sink, _MESSAGE + answer)
    write_frame(sink, b"")


def main() -> int:
    """Plays a site over standard input and output; returns the exit code.

    Ctrl-C is for the coordinator, which then closes the pipe. What a library prints goes to the
    error stream, so it cannot break a frame.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    use_threads(1)
    keep_freed_memory()
    sink = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return serve(sys.stdin.buffer, sink)


if __name__ == "__main__":
    sys.exit(main())

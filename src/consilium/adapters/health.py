# SPDX-License-Identifier: Apache-2.0
"""How a run stands at one party, as one small file that a monitor may read while it goes on.

A run lives in a process of its own; what serves its numbers outlives it (`metrics`). The file
is whole at every moment (written beside, renamed; not synced: it is no record). Every word in
it is from a list below or the name of a type of ours: no patient, no site, no run, no text.

Guarantees: `epsilon` is never below what was spent. Where less than ten seconds have passed
since the last price it is that of up to 20 rounds more, or a tenth of the run, so that a run is
not priced more than a dozen times for its length; at the end it is exact.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, TypeAlias, final

import msgspec

from consilium import errors
from consilium.adapters.coordinator_runner import RoundReport
from consilium.adapters.logs import note_where
from consilium.adapters.metering import Phase, Way
from consilium.adapters.stage import Observer, epsilon_after
from consilium.errors import ConsiliumError
from consilium.federation.messages import FromCoordinator, FromSite
from consilium.federation.progress import Progress
from consilium.federation.results import RunResult
from consilium.federation.setup import Setup

FILE: Final = "health.json"
OTHER: Final = "other"  # a kind that is on no list
KINDS: Final = frozenset(kind.__name__ for kind in (FromSite | FromCoordinator).__args__) | {OTHER}
ERRORS: Final = frozenset(
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, ConsiliumError)
) | {OTHER}
_AHEAD: Final = 20  # rounds
_SHORT: Final = 10.0  # seconds

logger: Final = logging.getLogger("consilium.adapters")

Standing: TypeAlias = Literal["idle", "running", "finished", "refused"]


@final
class Health(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a run stands.

    Attributes:
        process: Whose run it is; a process that is gone without an end has died.
        updated: Seconds since 1970.
        standing: Whether a run goes on.
        phase: What is being done.
        round: Whole rounds; a site does not know.
        rounds: Most rounds.
        attempts: Rounds that were begun; at a site, those it paid for.
        charges: Of this run, in this site's ledger.
        epsilon: Of the worst view, never too low; None without a guarantee or before the first.
        seconds: In each phase.
        bytes: By way and kind of message, "in/Upload".
        error: Kind of the last error.
    """

    process: int = 0
    updated: float = 0.0
    standing: Standing = "idle"
    phase: Phase = "waiting"
    round: int | None = None
    rounds: int = 0
    attempts: int = 0
    charges: int = 0
    epsilon: float | None = None
    seconds: dict[Phase, float] = {}
    bytes: dict[str, int] = {}
    error: str | None = None


def read_health(path: Path) -> Health:
    """Returns what is in the file; idle where there is none, or one of another release."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Health)
    except (OSError, msgspec.MsgspecError):
        return Health()


def error_kind(error: BaseException) -> str:
    """Returns the name of an error of ours, or that it is another: never its text."""
    return next((kind.__name__ for kind in type(error).__mro__ if kind.__name__ in ERRORS), OTHER)


@final
class HealthFile:
    """One run's health, kept in the file at `path`; a meter.

    An error may be noted from any thread; everything else comes from one at a time.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = path, clock
        self._seconds: dict[Phase, float] = {}
        self._bytes: dict[str, int] = {}
        self._setup: Setup | None = None
        self._turn = threading.Lock()
        self._priced_to, self._priced_at = 0, -_SHORT
        self._now, self._since = Health(process=os.getpid(), standing="running"), clock()
        self._write()

    # -- What a driver tells (`Meter`) ------------------------------------------------

    def passed(self, way: Way, kind: str, size: int) -> None:
        """Counts bytes; they are in the file from the next phase on."""
        key = f"{way}/{kind if kind in KINDS else OTHER}"
        self._bytes[key] = self._bytes.get(key, 0) + size

    def enters(self, phase: Phase) -> None:
        """Ends the phase before."""
        now, before = self._clock(), self._now.phase
        self._seconds[before] = self._seconds.get(before, 0.0) + max(0.0, now - self._since)
        self._since = now
        self._say(phase=phase)

    def charged(self, round_: int, count: int) -> None:
        """Notes a site's charges and what they cost."""
        note_where(round=round_)
        logger.info("round is paid for")
        self._say(charges=count, attempts=count, epsilon=self._price(count))

    # -- What a party tells -----------------------------------------------------------

    def expects(self, setup: Setup) -> None:
        """Notes what is to be run."""
        self._setup = setup
        self._say(rounds=setup.agenda.rounds)

    def stands(self, progress: Progress) -> None:
        """Notes where the coordinator's training stands."""
        done, begun = progress.round, progress.attempts
        self._say(round=done, attempts=begun, epsilon=self._price(begun))

    def failed(self, error: BaseException) -> None:
        """Notes the kind of an error."""
        self._say(error=error_kind(error))

    def ends(self, standing: Standing) -> None:
        """Notes the end, and the exact price."""
        self._priced_to, self._priced_at = 0, -_SHORT
        self.enters("waiting")
        self._say(standing=standing, epsilon=self._price(self._now.attempts))

    def _price(self, steps: int) -> float | None:
        """Returns what `steps` cost, or where they follow each other quickly some more cost."""
        if self._setup is None or 0 < steps <= self._priced_to:
            return self._now.epsilon
        quick = time.monotonic() - self._priced_at < _SHORT
        ahead = max(_AHEAD, self._now.rounds // 10)
        self._priced_to, self._priced_at = steps + ahead * quick, time.monotonic()
        return epsilon_after(self._setup, self._priced_to)

    def _say(self, **changes: object) -> None:
        with self._turn:
            self._now = msgspec.structs.replace(self._now, **changes)
            self._write()

    def _write(self) -> None:
        whole = msgspec.structs.replace(
            self._now, updated=self._clock(), seconds=self._seconds, bytes=self._bytes
        )
        part = self._path.with_name(self._path.name + ".part")
        try:
            part.write_bytes(msgspec.json.encode(whole))
            part.replace(self._path)
        except OSError:  # a full disk must stop a run at its ledger, not here
            part.unlink(missing_ok=True)


@final
class WatchedRun:
    """The observer `inner`, and beside it the file."""

    def __init__(self, inner: Observer, file: HealthFile) -> None:
        self._inner, self._file = inner, file

    def begins(self, setup: Setup, seed: int, progress: Progress) -> None:
        """Notes the plan."""
        self._file.expects(setup)
        self._file.enters("gathering")
        self._file.stands(progress)
        logger.info("run begins")
        self._inner.begins(setup, seed, progress)

    def round_done(self, report: RoundReport) -> None:
        """Notes the round."""
        self._file.stands(report.progress)
        note_where(round=report.progress.round)
        logger.info("round is done")
        self._inner.round_done(report)

    def ends(self, result: RunResult) -> None:
        """Notes the end."""
        self._file.ends("finished")
        logger.info("run is finished: %s", result.reason)
        self._inner.ends(result)

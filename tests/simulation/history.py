# SPDX-License-Identifier: Apache-2.0
"""Plays the history of a seed, makes a failing one smaller, and tells it.

python -m tests.simulation.history SEED      plays it again and prints it
"""

import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, final

from tests.simulation.parties import make_data
from tests.simulation.script import NAMES, Fault, Script, script_of
from tests.simulation.world import World

from consilium.federation.results import RunResult

_IN_MEMORY: Final = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - quicker


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What happened.

    Attributes:
        script: Of which seed, with which faults.
        trace: Line by line.
        wrong: Which invariants are broken.
        struck: The faults that came about.
        result: How training ended.
        model: The released weights.
        jobs: How often the coordinator was started.
        seconds: Of virtual time.
        steps: Of the scheduler.
    """

    script: Script
    trace: tuple[str, ...]
    wrong: tuple[str, ...]
    struck: tuple[Fault, ...]
    result: RunResult | None
    model: bytes
    jobs: int
    seconds: float
    steps: int

    def __str__(self) -> str:
        """Tells it, and how to play it again."""
        return "\n".join(
            [
                f"seed {self.script.seed}: again by "
                f"`python -m tests.simulation.history {self.script.seed}`",
                str(self.script),
                *self.trace,
                *(f"WRONG: {one}" for one in self.wrong),
            ]
        )


@cache
def _data() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="simulation-"))
    make_data(folder, NAMES)
    return folder


def play(script: Script) -> History:
    """Returns the history of a script."""
    with tempfile.TemporaryDirectory(prefix="simulation-", dir=_IN_MEMORY) as folder:
        world = World(script, Path(folder), _data())
        world.play()
    return History(
        script=script,
        trace=tuple(world.trace),
        wrong=tuple(dict.fromkeys(world.watch.wrong)),
        struck=tuple(world.struck),
        result=world.result,
        model=world.model,
        jobs=len(world.jobs),
        seconds=world.kernel.now,
        steps=world.kernel.steps,
    )


def shrunk(history: History) -> History:
    """Returns a history that is wrong too, with no fault that it can do without."""
    smaller = True
    while smaller:
        smaller = False
        for fault in history.script.faults:
            less = play(history.script.without(fault))
            if less.wrong:
                history, smaller = less, True
                break
    return history


def main(arguments: list[str]) -> int:
    """Plays the seeds that are named; returns how many are wrong."""
    wrong = 0
    for seed in arguments:
        history = play(script_of(int(seed)))
        wrong += bool(history.wrong)
        sys.stdout.write(f"{shrunk(history) if history.wrong else history}\n\n")
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

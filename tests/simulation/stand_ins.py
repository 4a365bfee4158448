# SPDX-License-Identifier: Apache-2.0
"""Puts virtual time, queues, files and randomness where our code would use real ones.

Whatever module of the adapters holds the real thing gets the stand-in, whichever name it has
there. What is slow and has no part in any fault is computed once: the price of a plan, the
project file, the data, the one look at the test records.
"""

import io
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final, final

import pytest
from tests.simulation.kernel import SimPool, SimQueue, SimThreading
from tests.simulation.parties import dataset_of

from consilium.adapters import dataset, ledger_file, stage
from consilium.federation import coordinator
from consilium.federation.contribution import contribute
from consilium.federation.ledger import Charge, Receipt
from consilium.federation.project import Project, parse_project
from consilium.federation.setup import PublicFacts, Setup, make_setup
from consilium.learning.metrics import Metrics, evaluate

if TYPE_CHECKING:
    from tests.simulation.world import World

_epsilon_after = stage.epsilon_after
ELSEWHERE: Final = tuple(
    f"consilium.adapters.{part}"
    for part in ("courier", "hosting", "identity", "inference", "office", "run_", "store")
)
SKEW: Final = 600.0  # seconds between the clocks of two machines

_SETUPS: dict[tuple[object, ...], Setup] = {}
_METRICS: dict[str, Metrics] = {}
_PRICES: dict[tuple[bytes, int], float | None] = {}


@contextmanager
def substituted(world: "World") -> Iterator[None]:
    """Puts virtual time, queues, files and randomness where our code would use real ones."""
    kernel, disk = world.kernel, world.disk
    places: list[tuple[object, object]] = [
        (time, Clock(world)),
        (threading, SimThreading(kernel)),
        (queue.SimpleQueue, lambda: SimQueue(kernel)),
        (ThreadPoolExecutor, lambda max_workers=1: SimPool(kernel)),  # noqa: ARG005
        (io.FileIO, disk.open_file),
        (coordinator.step, world.step),
        (contribute, world.contribute),
        (make_setup, _make_setup),
        (parse_project, cache(parse_project)),
        (dataset.read_dataset, dataset_of),
        (dataset.read_named, lambda settings, folder: dataset_of(settings, folder).splits),
        (evaluate, _evaluate_once),
        (stage.epsilon_after, _price),
        (stage.make_hooks, lambda *told, real=stage.make_hooks: world.hooks(real(*told))),
    ]
    with pytest.MonkeyPatch.context() as patch:
        for module in _adapters():
            for name, value in list(vars(module).items()):
                for real, stand_in in places:
                    if value is real and module is not dataset:
                        patch.setattr(module, name, stand_in)
        patch.setattr(ledger_file, "_PAUSE", 0.5)  # seconds between two looks at a lock
        patch.setattr(os, "fsync", disk.fsync)
        patch.setattr(os, "replace", disk.replace)
        patch.setattr(time, "time", _wall_clock(world))
        patch.setattr(ledger_file.FileLedger, "append", _charged(world))
        with heard(world):
            yield


def _adapters() -> list[Any]:
    """Returns the modules that play a run; others' threads may live in this process."""
    names = [
        name
        for name in sorted(sys.modules)
        if name.startswith("consilium.adapters.") and not name.startswith(ELSEWHERE)
    ]
    return [sys.modules[name] for name in names]


def _make_setup(
    project: Project,
    arm: str,
    facts: PublicFacts,
    identities: Sequence[bytes],
    seed: int,
) -> Setup:
    key = (project.terms(arm), arm, facts, tuple(identities), seed)
    if key not in _SETUPS:
        _SETUPS[key] = make_setup(project, arm, facts, identities, seed)
    return _SETUPS[key]


def _price(setup: Setup, steps: int) -> float | None:
    key = (setup.terms, steps)
    if key not in _PRICES:
        _PRICES[key] = _epsilon_after(setup, steps)
    return _PRICES[key]


def _evaluate_once(*arguments: Any, **named: Any) -> Metrics:  # noqa: ANN401
    if not _METRICS:
        _METRICS["test"] = evaluate(*arguments, **named)
    return _METRICS["test"]


def _charged(world: "World") -> Callable[..., Receipt]:
    real = ledger_file.FileLedger.append

    def append(ledger: ledger_file.FileLedger, charge: Charge) -> Receipt:
        receipt = real(ledger, charge)
        world.at("charged")
        return receipt

    return append


def _wall_clock(world: "World") -> Callable[[], float]:
    real = time.time

    def wall() -> float:
        asker = str(sys._getframe(1).f_globals.get("__name__", ""))
        if asker.startswith("consilium.") and world.kernel.current is not None:
            world.watch.complain(f"{asker} reads a wall clock")
        return real()  # of the log

    return wall


@final
class Clock:
    """Stands for the module `time`: every machine counts from another moment."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def monotonic(self) -> float:
        kernel = self._world.kernel
        return kernel.now + SKEW * len(kernel.me().process.machine)

    def sleep(self, seconds: float) -> None:
        self._world.kernel.sleep(seconds)


@contextmanager
def heard(world: "World") -> Iterator[None]:
    """Reads the log: it must hold no secret."""
    log = logging.getLogger("consilium")
    handler, level, up = _Ears(world), log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = up


@final
class _Ears(logging.Handler):
    def __init__(self, world: "World") -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{record.getMessage()} {getattr(record, 'why', '')}"
        self._world.watch.says(text)
        self._world.note("log", f"{getattr(record, 'site', '')} {text}")
        if record.exc_info:
            self._world.watch.complain(f"{record.exc_info[1]!r} is logged as unforeseen")

# SPDX-License-Identifier: Apache-2.0
"""Virtual time: threads, queues, locks and clocks that one seed schedules, one at a time.

Code that blocks on real threads runs here unchanged. Each task has a thread of its own, but only
the one that holds the baton runs; it hands the baton back where it would block, and the kernel
gives it to the next one that is due. Ties are broken by the seed. Nothing waits in real time.
A task may be killed wherever it blocks: `Killed` is no `Exception`, so nobody catches it.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from queue import Empty
from random import Random
from typing import Any, Final, Generic, TypeVar, final

MOST_STEPS: Final = 60_000
LONGEST: Final = 48 * 3600.0  # seconds of virtual time

T = TypeVar("T")
S = TypeVar("S")


class Killed(BaseException):
    """kill -9: nothing of the process runs on."""


class Hangs(AssertionError):
    """A history that does not end."""


@final
class Process:
    """Tasks that die together."""

    def __init__(self, name: str, machine: str) -> None:
        self.name, self.machine = name, machine
        self.alive = True
        self.tasks: list[Task] = []
        self.on_end: list[Callable[[], None]] = []  # what the operating system does then


@final
@dataclass(eq=False)
class Task:
    """One thread of a process."""

    process: Process
    act: Callable[[], object]
    worker: "_Worker"
    turn: int = 0  # a wake-up of an earlier turn is stale
    done: bool = False


@final
class _Worker(threading.Thread):
    """A real thread that plays one task after another."""

    idle: "list[_Worker]" = []  # noqa: RUF012 - shared on purpose: threads are kept

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.go, self.back = threading.Semaphore(0), threading.Semaphore(0)
        self.task: Task | None = None
        self.crash: BaseException | None = None
        self.start()

    def run(self) -> None:
        while True:
            self.go.acquire()
            task = self.task
            assert task is not None
            try:
                if task.process.alive:
                    task.act()
            except Killed:
                pass
            except BaseException as error:  # noqa: BLE001 - raised again by the kernel
                self.crash = error
            task.done = True
            self.task = None
            self.back.release()

    @classmethod
    def take(cls) -> "_Worker":
        return cls.idle.pop() if cls.idle else cls()


@dataclass
class Kernel:
    """The scheduler of one history."""

    random: Random
    now: float = 0.0
    steps: int = 0
    current: Task | None = None
    _due: list[tuple[float, float, int, Task, int]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: iter(range(10**9)))
    _tasks: list[Task] = field(default_factory=list)

    # -- Called by the world ----------------------------------------------------------

    def spawn(self, process: Process, act: Callable[[], object]) -> Task:
        """Starts a thread of `process`."""
        task = Task(process, act, _Worker.take())
        task.worker.task = task
        process.tasks.append(task)
        self._tasks.append(task)
        self._wake(task, self.now)
        return task

    def run(self) -> None:
        """Plays until nobody has anything more to do."""
        try:
            while self._due:
                when, _, _, task, turn = heappop(self._due)
                if task.done or task.turn != turn:
                    continue
                self.now, self.steps = when, self.steps + 1
                if self.steps > MOST_STEPS or self.now > LONGEST:
                    raise Hangs(f"no end after {self.steps} steps and {self.now:.0f} s")
                self._give_baton(task)
        finally:
            self._end()

    def kill(self, process: Process) -> None:
        """Ends a process at once; raises `Killed` where it kills its own caller."""
        if not process.alive:
            return
        process.alive = False
        for end in process.on_end:
            end()
        for task in process.tasks:
            if not task.done and task is not self.current:
                task.turn += 1
                self._wake(task, self.now)
        if self.current is not None and self.current.process is process:
            raise Killed

    # -- Called by tasks --------------------------------------------------------------

    def me(self) -> Task:
        """Returns the task that runs."""
        assert self.current is not None
        return self.current

    def sleep(self, seconds: float) -> None:
        """Waits."""
        self._wake(self.me(), self.now + seconds)
        self.block()

    def block(self) -> None:
        """Hands the baton back until somebody wakes this task."""
        task = self.me()
        if not task.process.alive:
            raise Killed
        worker = task.worker
        worker.back.release()
        worker.go.acquire()
        if not task.process.alive:
            raise Killed

    def wake(self, task: Task) -> None:
        """Lets a blocked task go on now."""
        self._wake(task, self.now)

    def wake_at(self, task: Task, when: float) -> None:
        """Lets a blocked task go on at `when`, unless something else wakes it before."""
        self._wake(task, when)

    # -- Inside -----------------------------------------------------------------------

    def _wake(self, task: Task, when: float) -> None:
        entry = (when, self.random.random(), next(self._numbers), task, task.turn)
        heappush(self._due, entry)

    def _give_baton(self, task: Task) -> None:
        task.turn += 1
        self.current, worker = task, task.worker
        worker.go.release()
        worker.back.acquire()
        self.current = None
        if task.done:
            _Worker.idle.append(worker)
            crash, worker.crash = worker.crash, None
            if crash is not None:
                raise crash

    def _end(self) -> None:
        """Unwinds what is left, so that the threads can be used again."""
        for process in dict.fromkeys(task.process for task in self._tasks):
            for end in process.on_end if process.alive else ():
                end()
            process.alive = False
        for task in self._tasks:
            while not task.done:
                self._give_baton(task)


# -- What stands for the standard library ---------------------------------------------


@final
class SimQueue(Generic[T]):
    """Stands for `queue.SimpleQueue`."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel, self._items = kernel, deque[T]()
        self._waiting: list[Task] = []

    def put(self, item: T) -> None:
        self._items.append(item)
        for task in self._waiting:
            self._kernel.wake(task)
        self._waiting = []

    def get(self, timeout: float | None = None) -> T:
        kernel, task = self._kernel, self._kernel.me()
        due = None if timeout is None else kernel.now + timeout
        while not self._items:
            if due is not None and kernel.now >= due:
                raise Empty
            self._waiting.append(task)
            if due is not None:
                kernel.wake_at(task, due)
            kernel.block()
            self._waiting = [other for other in self._waiting if other is not task]
        return self._items.popleft()

    def get_nowait(self) -> T:
        if not self._items:
            raise Empty
        return self._items.popleft()


@final
class SimLock:
    """Stands for `threading.Lock`."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel, self._waiting = kernel, deque[Task]()
        self._holder: Task | None = None

    def __enter__(self) -> None:
        task = self._kernel.me()
        while self._holder is not None:
            self._waiting.append(task)
            self._kernel.block()
        self._holder = task

    def __exit__(self, *_: object) -> None:
        self._holder = None
        if self._waiting:
            self._kernel.wake(self._waiting.popleft())


@final
class SimThreading:
    """Stands for the module `threading`."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def Thread(  # noqa: N802 - the standard library's name
        self, *, target: Callable[..., object], args: Iterable[Any] = (), daemon: bool = False
    ) -> "_Start":
        del daemon
        return _Start(self._kernel, lambda: target(*args))

    def Lock(self) -> SimLock:  # noqa: N802
        return SimLock(self._kernel)


@final
@dataclass(frozen=True)
class _Start:
    kernel: Kernel
    act: Callable[[], object]

    def start(self) -> None:
        self.kernel.spawn(self.kernel.me().process, self.act)


@final
class SimPool:
    """Stands for `ThreadPoolExecutor`."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def __enter__(self) -> "SimPool":
        return self

    def __exit__(self, *_: object) -> None:
        """Everything was waited for."""

    def map(self, act: Callable[[S], T], items: Iterable[S]) -> list[T]:
        kernel = self._kernel
        answers: SimQueue[tuple[int, T | Exception]] = SimQueue(kernel)

        def one(number: int, item: S) -> None:
            try:
                answers.put((number, act(item)))
            except Exception as error:  # noqa: BLE001 - raised again by who asked
                answers.put((number, error))

        todo = list(items)
        for number, item in enumerate(todo):
            kernel.spawn(kernel.me().process, partial(one, number, item))
        found = dict(answers.get() for _ in todo)
        results = [found[number] for number in range(len(todo))]
        for result in results:
            if isinstance(result, Exception):
                raise result
        return results  # type: ignore[return-value]

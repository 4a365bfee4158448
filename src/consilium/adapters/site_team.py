# SPDX-License-Identifier: Apache-2.0
"""A site's team: several processes on its machine, one a GPU, that add up the patients drawn.

    site (keys, ledger, masks, draw, noise) -- torchrun -- process 0, process 1, ...
      weights, each one's part of the patients drawn ->       (gloo on CPUs, NCCL on GPUs)
                              <- the sum over all of them

Guarantees: mechanism and price are those of one process. The patients of a round are drawn once,
by the site's own process with the operating system's randomness, before the team hears of them.
The team computes what one process would, `sum_of_patients` of just these patients: each is clipped
whole in one process, parts are added in float64, bounded and rounded once, so one patient more or
less still moves the sum by at most C. The noise is added once, by the site's own process, to that
sum. Neither coins nor noise nor a key ever reach the team. A sum counts only when every process has
answered and all hold the same one; else the round fails for this site (`RoundAborted`), nothing is
charged or sent, and the next one begins with new processes. Nothing listens beyond this machine,
and the team ends with the site, also when that is killed. As taken for granted by `clipped_sum`, a
patient's gradient must not depend on where it is computed; so GPUs of different kinds are refused.

Not here: `DistributedDataParallel`, which averages gradients before they are clipped, and arms
without a clipped sum.
"""

import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeVar, final

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from consilium.adapters import site_team_process
from consilium.adapters.site_team_line import (
    DOOR,
    READY,
    Blueprint,
    Brief,
    Line,
    SharedRecords,
    make_task,
    sum_in,
)
from consilium.errors import ConfigError, RoundAborted
from consilium.federation.contribution import Trainee
from consilium.learning.parameters import Vector

_START_SECONDS: Final = 300.0  # for torchrun and every process to be there
_END_SECONDS: Final = 5.0  # for them to end by themselves
_KILL_SECONDS: Final = 60.0  # torchrun kills what does not end within 30
_LOOK: Final = 0.2  # seconds between two looks at torchrun, the clock and the session
_T = TypeVar("_T")
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid


def check_devices(processes: int, devices: Sequence[str]) -> None:
    """Returns only if `processes` can share this machine.

    Args:
        processes: How many.
        devices: The name of each GPU; none computes on CPUs.

    Raises:
        ConfigError: There are fewer GPUs, GPUs of several kinds, or no Linux.
    """
    if processes == 1:
        return
    if sys.platform != "linux":
        raise ConfigError(
            f"{processes} processes on {sys.platform}; expected Linux: join with --processes 1"
        )
    mine = devices[:processes]
    if devices and len(mine) < processes:
        raise ConfigError(
            f"{processes} processes, {len(devices)} GPUs; expected a GPU for each: join with "
            f"--processes {len(devices)}"
        )
    if len(set(mine)) > 1:
        raise ConfigError(
            f"GPUs of different kinds ({', '.join(mine)}), which round differently; expected one "
            "kind, as a patient's part of the sum must not depend on the device: choose by "
            "CUDA_VISIBLE_DEVICES"
        )


def gpus() -> list[str]:
    """Returns the name of each GPU that this process may use."""
    return [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]


@final
class SiteTeam:
    """The processes of one site in one run; `clipped_sum` is a `Summing`.

    Attributes:
        trainee: The one that was given, with its records in the memory that all processes read:
            keep this one and let the other go.
        seconds: After which a round that is not answered is given up.

    Args:
        trainee: Of the site.
        blueprint: Of its network.
        processes: How many.
        seconds: As the attribute.

    Raises:
        ConfigError: This machine does not have the devices, or the project augments images, which
            the other processes cannot.
        OSError: Memory or processes cannot be had.
    """

    def __init__(
        self, trainee: Trainee, blueprint: Blueprint, *, processes: int, seconds: float
    ) -> None:
        check_devices(processes, gpus())
        if trainee.fresh is not None:
            raise ConfigError(
                f"training.augmentation is set and this site has {processes} processes; expected "
                "one: the others hold records as they are; set processes to 1 in the site's "
                "settings, or leave the project's views as they are made once"
            )
        state = {name: value.detach().clone() for name, value in trainee.model.state_dict().items()}
        self._records = SharedRecords(trainee.inputs, trainee.labels)
        self.trainee = replace(trainee, inputs=self._records.inputs, labels=self._records.labels)
        inputs, labels = self._records.stored
        self._brief = Brief(
            blueprint=blueprint,
            state=save(state),
            inputs=inputs,
            labels=labels,
            seconds=_START_SECONDS + seconds,
        )
        self._processes, self.seconds = processes, seconds
        self._turn, self._closed = threading.Lock(), False
        self._crew: _Crew | None = _Crew(processes)

    def wait_until_ready(self) -> None:
        """Returns when every process is there, so that the first round does not wait for them.

        Raises:
            RoundAborted: One does not come.
        """
        self._together(lambda _crew: None)

    def clipped_sum(
        self, weights: Vector, drawn: Sequence[NDArray[np.intp]], l2_clip_norm: float
    ) -> Vector:
        """Returns the sum over the patients drawn, by all processes together; see `Summing`.

        Raises:
            RoundAborted: A process ended or did not answer in time, or the team is closed.
        """
        tasks = [
            msgspec.msgpack.encode(make_task(weights, drawn[k :: self._processes], l2_clip_norm))
            for k in range(self._processes)
        ]
        return self._together(lambda crew: sum_in(crew.ask(tasks, self.seconds), len(weights)))

    def close(self) -> None:
        """Ends the processes, also in the middle of a sum."""
        with self._turn:
            self._closed, crew, self._crew = True, self._crew, None
        if crew is not None:
            crew.end()
        self._records.close()

    def _together(self, asked: Callable[["_Crew"], _T]) -> _T:
        """Returns what all processes together answer; else they all end."""
        crew = self._present()
        try:
            crew.gather(msgspec.msgpack.encode(self._brief), self._records.descriptor)
            return asked(crew)
        except (RoundAborted, OSError) as error:
            self._dismiss(crew)
            raise RoundAborted(
                f"{error}; expected one sum of this site's {self._processes} processes: nothing "
                "was sent, this site's next round begins with new processes; torchrun's words are "
                "in its log"
            ) from error

    def _present(self) -> "_Crew":
        with self._turn:
            if self._closed:
                raise RoundAborted("this site's session is closed; nothing was computed")
            if self._crew is None:
                self._crew = _Crew(self._processes)
            return self._crew

    def _dismiss(self, crew: "_Crew") -> None:
        with self._turn:
            if self._crew is crew:
                self._crew = None
        crew.kill()


# -- Running processes ----------------------------------------------------------------


@final
class _Crew:
    """The processes that one torchrun started. They live and end together.

    One thread asks; another may end them meanwhile.
    """

    def __init__(self, processes: int) -> None:
        self._size = processes
        self._folder = TemporaryDirectory(prefix="consilium-team-")
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(Path(self._folder.name) / DOOR))
        self._door.listen(processes)
        self._door.settimeout(_LOOK)
        self._lines: list[Line] = []  # in the order of ranks, once all are there
        self._handles: list[int] = []
        self._asking, self._ended, self._ready = threading.RLock(), threading.Event(), False
        self._torchrun = _torchrun(processes, self._folder.name)

    def gather(self, brief: bytes, descriptor: int) -> None:
        """Waits until all processes have come and know what they need; the second time at once.

        Raises:
            RoundAborted: One does not come, or goes again.
            OSError: A connection breaks.
        """
        with self._asking:
            if self._ready:
                return
            due = time.monotonic() + _START_SECONDS
            while len(self._lines) < self._size:
                self._admit(due)
            ranks = [int.from_bytes(said, "big") for said in self._answers(_START_SECONDS)]
            self._lines = [self._lines[ranks.index(rank)] for rank in range(self._size)]
            for line in self._lines:
                socket.send_fds(line.socket, [b"r"], [descriptor])
            self._tell([brief] * self._size)
            self._ready = set(self._answers(_START_SECONDS)) == {READY}

    def ask(self, tasks: Sequence[bytes], seconds: float) -> list[bytes]:
        """Returns each process's answer to its task, in the order of their ranks.

        Raises:
            RoundAborted: One ended, or is silent for too long.
            OSError: A connection breaks.
        """
        with self._asking:
            for line in self._lines:
                line.socket.settimeout(seconds)
            self._tell(tasks)
            return self._answers(seconds)

    def kill(self) -> None:
        """Ends all processes at once."""
        with self._asking:
            self._kill()
            self.end()

    def end(self) -> None:
        """Lets all processes end, and kills those that do not; who asks them gets no answer."""
        self._ended.set()
        for line in self._lines:
            line.wake()
        with self._asking:
            self._door.close()
            for line in self._lines:
                line.close()
            self._wait_for_torchrun()
            for handle in self._handles:
                os.close(handle)
            self._handles.clear()
            self._folder.cleanup()

    def _wait_for_torchrun(self) -> None:
        try:
            self._torchrun.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
            self._torchrun.terminate()
            try:
                self._torchrun.wait(_KILL_SECONDS)
            except subprocess.TimeoutExpired:
                self._torchrun.kill()
                self._torchrun.wait()

    def _admit(self, due: float) -> None:
        """Lets one process in, if one has come."""
        if self._ended.is_set():
            raise RoundAborted("the session ended")
        if (code := self._torchrun.poll()) is not None:
            raise RoundAborted(f"torchrun ended with {code} before its processes were there")
        if time.monotonic() > due:
            raise RoundAborted(f"only {len(self._lines)} processes came in {_START_SECONDS:g} s")
        try:
            end, _ = self._door.accept()
        except TimeoutError:
            return
        said = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        self._lines.append(Line(end, _START_SECONDS))
        self._handles.append(os.pidfd_open(_CREDENTIALS.unpack(said)[0]))

    def _tell(self, words: Sequence[bytes]) -> None:
        for rank, (line, said) in enumerate(zip(self._lines, words, strict=True)):
            try:
                line.say(said)
            except OSError as error:
                raise RoundAborted(
                    f"process {rank} does not listen ({type(error).__name__})"
                ) from None

    def _answers(self, seconds: float) -> list[bytes]:
        """Returns one frame of each process, in the order of their lines."""
        answers: dict[int, bytes] = {}
        due = time.monotonic() + seconds
        with selectors.DefaultSelector() as waiting:
            for place, line in enumerate(self._lines):
                waiting.register(line.socket, selectors.EVENT_READ, place)
            while waiting.get_map():
                if self._ended.is_set():
                    raise RoundAborted("the session ended")
                if time.monotonic() > due:
                    silent = ", ".join(str(k) for k in range(self._size) if k not in answers)
                    raise RoundAborted(f"process {silent} did not answer in {seconds:g} s")
                for key, _ in waiting.select(_LOOK):
                    answers[key.data] = self._answer(key.data)
                    waiting.unregister(key.fileobj)
        return [answers[place] for place in sorted(answers)]

    def _answer(self, place: int) -> bytes:
        answer = self._lines[place].hear()
        if answer is None:
            raise RoundAborted(f"process {place} ended")
        return answer

    def _kill(self) -> None:
        for handle in self._handles:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)


def _torchrun(processes: int, folder: str) -> subprocess.Popen[bytes]:
    """Starts the processes; none of them, nor torchrun itself, listens beyond this machine."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "GLOO_SOCKET_IFNAME": "lo",
        "NCCL_SOCKET_IFNAME": "lo",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # the store listens on every interface
    }
    words = [
        sys.executable, "-m", "torch.distributed.run",
        "--nnodes=1", f"--nproc-per-node={processes}", "--max-restarts=0", "--monitor-interval=0.1",
        "--rdzv-backend=c10d", "--rdzv-conf=store_type=file", "--rdzv-id=team",
        f"--rdzv-endpoint={folder}/torchrun", f"--log-dir={folder}/logs",
        "-m", site_team_process.__name__, folder,
    ]  # fmt: skip
    return subprocess.Popen(  # noqa: S603 - our own module, no shell
        words, env=environment, stdin=subprocess.DEVNULL, start_new_session=True
    )

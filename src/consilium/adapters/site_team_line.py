# SPDX-License-Identifier: Apache-2.0
"""What a site's own process and the processes of its team say to each other, and how.

A Unix socket a process, in a folder that only their user may enter. Frames are those of
`adapters.processes`.

    process -> site   its rank
    site -> process   the records' shared memory, as a file descriptor; then a `Brief`
    process -> site   READY
    site -> process   a `Task`
    process -> site   the sum over the patients of all processes (rank 0), or its digest

Records lie once in memory, whatever number of processes reads them. That memory has no name and
no file: it is gone with the last process that maps it.
"""

import mmap
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, final

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from consilium.adapters.dataset import Networks, make_networks
from consilium.adapters.processes import read_frame, write_frame
from consilium.errors import RoundAborted
from consilium.federation.project import parse_project
from consilium.learning.parameters import Vector
from consilium.wire import digest

READY: Final = b"ready"
DOOR: Final = "door"  # the socket, in the team's folder
MEETING: Final = "meeting"  # the file by which the processes find each other, beside it
_SUM: Final = "sum of a site's team"
_ALIGNED: Final = 64  # bytes at which a tensor begins


class Blueprint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the network and the loss are built from.

    Attributes:
        project: Resolved, as TOML.
        arm: Which arm of it.
        shape: Of one record, as it is stored.
        classes: How many.
        seed: Of the experiment.
    """

    project: str
    arm: str
    shape: tuple[int, ...]
    classes: int
    seed: int

    def networks(self) -> Networks:
        """Returns the network and the task; the same in every process.

        Raises:
            ConfigError: There is no such model for such data.
        """
        project = parse_project(self.project).for_arm(self.arm)
        return make_networks(project, shape=self.shape, classes=self.classes, seed=self.seed)


class Stored(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a tensor lies in shared memory."""

    dtype: str
    shape: tuple[int, ...]
    offset: int


class Brief(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a process is told once.

    Attributes:
        blueprint: Of the network.
        state: Its weights and buffers, also those that are not trained, as safetensors.
        inputs: Of all records of this site.
        labels: Of the same.
        seconds: How long processes wait for each other.
    """

    blueprint: Blueprint
    state: bytes
    inputs: Stored
    labels: Stored
    seconds: float


class Task(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a process computes in a round.

    Attributes:
        weights: The model, float32.
        l2_clip_norm: C.
        rows: Where the records of its patients lie, int64, patient after patient.
        counts: How many records each of its patients has, int64.
    """

    weights: bytes
    l2_clip_norm: float
    rows: bytes
    counts: bytes

    def __repr__(self) -> str:
        """Never shows who was drawn."""
        return "Task()"


def make_task(weights: Vector, drawn: Sequence[NDArray[np.intp]], l2_clip_norm: float) -> Task:
    """Returns the task to add up the patients drawn."""
    rows = np.concatenate([np.zeros(0, np.int64), *drawn]).astype("<i8")
    counts = np.array([len(each) for each in drawn], "<i8")
    return Task(
        weights=weights.astype("<f4").tobytes(),
        l2_clip_norm=l2_clip_norm,
        rows=rows.tobytes(),
        counts=counts.tobytes(),
    )


def drawn_in(task: Task) -> list[NDArray[np.intp]]:
    """Returns where the records of each patient of a task lie."""
    rows = np.frombuffer(task.rows, "<i8").astype(np.intp)
    counts = np.frombuffer(task.counts, "<i8")
    return np.split(rows, counts.cumsum()[:-1]) if len(counts) else []


def make_answer(rank: int, total: Vector) -> bytes:
    """Returns what the process `rank` says of the sum that it holds: one says it, all prove it."""
    data = total.astype("<f4").tobytes()
    return data if rank == 0 else digest(_SUM, data)


def sum_in(answers: Sequence[bytes], dimension: int) -> Vector:
    """Returns the sum that all processes hold, shape (dimension,).

    Args:
        answers: In the order of ranks.
        dimension: How many weights are trained.

    Raises:
        RoundAborted: It is not one sum of that shape.
    """
    data, *others = answers
    if len(data) != 4 * dimension or any(other != digest(_SUM, data) for other in others):
        raise RoundAborted("the processes hold different sums, or of another model")
    return np.frombuffer(data, "<f4").astype(np.float32)


# -- Lines ----------------------------------------------------------------------------


@final
class Line:
    """One end of a socket between two processes of this machine.

    Args:
        end: Connected.
        seconds: After which an end that does not take what it is sent counts as lost.
    """

    def __init__(self, end: socket.socket, seconds: float | None = None) -> None:
        end.settimeout(seconds)
        self.socket = end
        self._said, self._heard = end.makefile("wb"), end.makefile("rb")

    def say(self, data: bytes) -> None:
        """Sends one frame.

        Raises:
            OSError: The other end is gone, or takes nothing.
        """
        write_frame(self._said, data)

    def hear(self) -> bytes | None:
        """Returns the next frame, or None where the other end is gone."""
        try:
            return read_frame(self._heard)
        except ConnectionError:
            return None

    def wake(self) -> None:
        """Ends the connection; who waits for it at either end wakes up."""
        with suppress(OSError):  # it has ended already
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Ends the connection and frees it; nobody may wait for it at this end."""
        self.wake()
        self._heard.close()
        with suppress(OSError):  # what was never sent
            self._said.close()
        self.socket.close()


# -- Shared memory --------------------------------------------------------------------


@final
class SharedRecords:
    """Copies of two tensors in memory that other processes may map."""

    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        first = Stored(dtype=_name(inputs), shape=tuple(inputs.shape), offset=0)
        offset = -(-inputs.nbytes // _ALIGNED) * _ALIGNED
        second = Stored(dtype=_name(labels), shape=tuple(labels.shape), offset=offset)
        self.stored = (first, second)
        self.descriptor = os.memfd_create("records")
        os.posix_fallocate(self.descriptor, 0, max(1, offset + labels.nbytes))
        self.inputs, self.labels = mapped(self.descriptor, self.stored, mmap.ACCESS_WRITE)
        self.inputs.copy_(inputs)
        self.labels.copy_(labels)

    def close(self) -> None:
        """Lets go of the memory, but for who has mapped it."""
        os.close(self.descriptor)


def mapped(
    descriptor: int, stored: tuple[Stored, Stored], access: int = mmap.ACCESS_COPY
) -> tuple[Tensor, Tensor]:
    """Returns both tensors of shared memory; with `ACCESS_COPY` writes stay here."""
    memory = mmap.mmap(descriptor, os.fstat(descriptor).st_size, access=access)
    first, second = (
        torch.from_numpy(np.ndarray(each.shape, np.dtype(each.dtype), memory, each.offset))
        for each in stored
    )
    return first, second


def _name(tensor: Tensor) -> str:
    return tensor.new_empty(0, device="cpu").numpy().dtype.str

# SPDX-License-Identifier: Apache-2.0
"""One process of a site's team: it adds up its part of the patients drawn, and nothing else.

    torchrun --nproc-per-node 2 -m consilium.adapters.site_team_process FOLDER

It has no key, no ledger, no noise and no connection but to its site and its team. It takes
the device `cuda:LOCAL_RANK` where there is CUDA, else the CPU, and ends when its site is gone,
also in the middle of a sum.
"""

import os
import select
import socket
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import final

import msgspec
import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load

from consilium.adapters.machine import keep_freed_memory
from consilium.adapters.process_group import ProcessGroup
from consilium.adapters.site_team_line import (
    DOOR,
    MEETING,
    READY,
    Brief,
    Line,
    Task,
    drawn_in,
    make_answer,
    mapped,
)
from consilium.dp.clip_kinds import Clip
from consilium.dp.clipping import PatientBatch, sum_of_patients
from consilium.dp.per_patient import Objective
from consilium.federation.contribution import batch_of
from consilium.learning.parameters import Vector, assign


@final
class Calculator:
    """The model on this process's device, and the site's records.

    Args:
        brief: What the site said.
        descriptor: Of the records' shared memory.
        device: Where sums are computed.
    """

    def __init__(self, brief: Brief, descriptor: int, device: torch.device) -> None:
        networks = brief.blueprint.networks()
        networks.trained.load_state_dict(load(brief.state))
        self._model, self._task = networks.trained.to(device), networks.task
        self._inputs, self._labels = mapped(descriptor, (brief.inputs, brief.labels))
        self._device, self._team = device, ProcessGroup()

    def total(self, task: Task) -> Vector:
        """Returns the sum over the patients of all processes; all get the same."""
        assign(self._model, np.frombuffer(task.weights, "<f4").astype(np.float32))
        batch = batch_of(self._inputs, self._labels, drawn_in(task))
        there = PatientBatch(
            inputs=batch.inputs.to(self._device),
            labels=batch.labels.to(self._device),
            patients=batch.patients.to(self._device),
        )
        objective = Objective(self._model, self._task.loss)
        total = sum_of_patients(objective, there, Clip(task.l2_clip_norm), team=self._team)
        vector: Vector = total.cpu().numpy()
        return vector


def main() -> int:
    """Computes for the site at FOLDER until it is gone; returns the exit code."""
    keep_freed_memory()
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    end = socket.socket(socket.AF_UNIX)
    try:
        end.connect(str(folder / DOOR))
    except (ConnectionRefusedError, FileNotFoundError):  # the site has ended meanwhile
        return 0
    threading.Thread(target=_end_with, args=(end,), daemon=True).start()
    line = Line(end)
    line.say(rank.to_bytes(4, "big"))
    _, (descriptor, *_), _, _ = socket.recv_fds(end, 1, 1)
    brief = msgspec.msgpack.decode(line.hear() or b"", type=Brief)
    _meet(folder, rank, brief.seconds)
    _serve(line, Calculator(brief, descriptor, _device()), rank)
    dist.destroy_process_group()
    return 0


def _serve(line: Line, calculator: Calculator, rank: int) -> None:
    line.say(READY)
    while (data := line.hear()) is not None:
        total = calculator.total(msgspec.msgpack.decode(data, type=Task))
        line.say(make_answer(rank, total))


def _end_with(end: socket.socket) -> None:
    """Ends this process when the other end is closed, whatever the main thread is at."""
    poll = select.poll()
    poll.register(end, 0)
    poll.poll()
    os._exit(0)


def _device() -> torch.device:
    """Returns this process's device; float32 is float32 there too."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local = int(os.environ["LOCAL_RANK"])
    torch.cuda.set_device(local)
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda", local)


def _meet(folder: Path, rank: int, seconds: float) -> None:
    """Makes the process group, by a file, so that nothing but the group's own links listens."""
    dist.init_process_group(
        "nccl" if torch.cuda.is_available() else "gloo",
        init_method=(folder / MEETING).as_uri(),
        rank=rank,
        world_size=int(os.environ["WORLD_SIZE"]),
        timeout=timedelta(seconds=seconds),
    )


if __name__ == "__main__":
    sys.exit(main())

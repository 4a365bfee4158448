# SPDX-License-Identifier: Apache-2.0
"""Our own protocol and its oracle as runtimes: operators that run elsewhere, all parties in this
process, and the fixed point in the clear.

`InProcess` and `InTheClear` hide nothing from whoever runs them: they are there to compare with.
"""

import time
from typing import final

import numpy as np
from numpy.typing import NDArray

from consilium import wire
from consilium.adapters.inference.asking import Offered, Patient
from consilium.adapters.randomness import operating_system
from consilium.errors import DataError
from consilium.inference.cleartext import run_clear
from consilium.inference.compiler import Compiled
from consilium.inference.cost import cost_of
from consilium.inference.program import Program
from consilium.inference.protocol import Heard, Randomness, run_inference
from consilium.inference.runtime import Answered, Spent


@final
class AskedOperators:
    """Two operators and a dealer that somebody runs, and one model that they offer."""

    name = "operators"
    trust = "two operators and a dealer, semi-honest; no two of them may look together"

    def __init__(self, patient: Patient, offered: Offered) -> None:
        self._patient, self._offered = patient, offered

    def infer(self, images: NDArray[np.float32]) -> Answered:
        """Returns the answer; operators do not tell their CPU seconds.

        Raises:
            DataError: An operator refused.
            RoundAborted: An operator is away, or stopped.
        """
        _channels_first(images, self._offered.program)
        found = self._patient.ask(self._offered, images)
        spent = [Spent(f"operator {k}", None, int(found.facts[k]["bytes"])) for k in (0, 1)]
        patient = Spent("patient", None, found.uploaded)
        return Answered(logits=found.logits, seconds=found.seconds, spent=(*spent, patient))


@final
class InProcess:
    """Our protocol with all parties in this process, in turn: publishing is in the figures."""

    name = "ours, one process"
    trust = "two operators and a dealer, semi-honest; here one process plays all of them"

    def __init__(self, compiled: Compiled) -> None:
        self._compiled = compiled
        blank = np.zeros((1, *compiled.program.image), np.float32)
        self._run(blank, [])  # compiles the kernels, outside of what is measured

    def infer(self, images: NDArray[np.float32]) -> Answered:
        """Returns the answer, and what the operators tell each other.

        Raises:
            DataError: Images of another shape.
        """
        maps = _channels_first(images, self._compiled.program)
        heard: Heard = []
        start, before = time.perf_counter(), time.process_time()
        logits = self._run(maps, heard)
        cpu, seconds = time.process_time() - before, time.perf_counter() - start
        said = [sum(len(wire.encode(m)) for to, m in heard if to != k) for k in (0, 1)]
        dealt = len(images) * cost_of(self._compiled.program).offline_bytes
        spent = (
            Spent("all parties", cpu, None),
            Spent("operator 0", None, said[0]),
            Spent("operator 1", None, said[1]),
            Spent("dealer", None, dealt),
        )
        return Answered(logits=logits, seconds=seconds, spent=spent)

    def _run(self, maps: NDArray[np.float32], heard: Heard) -> NDArray[np.float64]:
        program, weights = self._compiled.program, self._compiled.weights
        return run_inference(program, weights, maps, Randomness(operating_system()), heard)


@final
class InTheClear:
    """The same program on the values themselves: what every other runtime is held against."""

    name = "in the clear"
    trust = "whoever runs it sees image, model and answer"

    def __init__(self, compiled: Compiled) -> None:
        self._compiled = compiled

    def infer(self, images: NDArray[np.float32]) -> Answered:
        """Returns the answer.

        Raises:
            DataError: Images of another shape.
        """
        maps = _channels_first(images, self._compiled.program)
        start, before = time.perf_counter(), time.process_time()
        found = run_clear(self._compiled.program, self._compiled.weights, maps)
        spent = Spent("this process", time.process_time() - before, None)
        seconds = time.perf_counter() - start
        return Answered(logits=found.logits, seconds=seconds, spent=(spent,))


def _channels_first(images: NDArray[np.float32], program: Program) -> NDArray[np.float32]:
    """Returns the images as programs take them, (n, height, width, channels)."""
    height, width, channels = program.image
    if images.ndim != 4 or images.shape[1:] != (channels, height, width) or not len(images):
        raise DataError(
            f"images of shape {images.shape}; expected (n, {channels}, {height}, {width}): "
            "prepare them as the model's description says"
        )
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))

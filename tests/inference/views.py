# SPDX-License-Identifier: Apache-2.0
"""Everything that each operator sees of a run, by kind, and a test that it is uniform.

A run is `run_inference`; its parties' steps are watched from outside, so nothing here knows how
many rounds there are or which steps make them: what is said is known by its message and by the
ring that it was packed for.

False alarms: a chi-square test fails below `LEAST_P`. All seeds are fixed, so a run passes always
or never; where code or seeds change, the chance that one of its tests fails without a cause is
`LEAST_P` each, below 1e-6 for the hundreds of one run.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias, final

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2

from consilium.inference import material, operator, protocol
from consilium.inference.dealer import Deal, DealerEvent, DealerState, FromDealer, dealer_step
from consilium.inference.messages import AnswerShare
from consilium.inference.operator import (
    Appointed,
    Begin,
    Computing,
    FromOperator,
    Holding,
    OperatorEvent,
    OperatorState,
    Prepare,
    Prepared,
    Unmasking,
    operator_step,
)
from consilium.inference.program import Program
from consilium.inference.protocol import Randomness, run_inference
from consilium.inference.ring import Words, pack, reduce, unpack
from consilium.inference.weights import Weights

LEAST_P: Final = 1e-9
ENOUGH: Final = 8  # of each value, before a histogram is tested

Kind: TypeAlias = tuple[str, int]  # what it is, and the bits of its ring


@final
@dataclass(slots=True)
class Views:
    """Words by kind, of several runs; of a session of `count` images.

    Attributes:
        held: By operator: what it has of the patient, the dealer and itself.
        heard: By operator: what the other said.
        opened: What both know then, by opening; one array a run.
        owned: What operator 0 said of it.
    """

    count: int
    held: dict[tuple[int, Kind], list[Words]] = field(default_factory=lambda: defaultdict(list))
    heard: dict[tuple[int, Kind], list[Words]] = field(default_factory=lambda: defaultdict(list))
    opened: dict[tuple[int, Kind], list[Words]] = field(default_factory=lambda: defaultdict(list))
    owned: dict[tuple[int, Kind], list[Words]] = field(default_factory=lambda: defaultdict(list))


@final
class Watch:
    """Stands in the place of the parties' steps and of `pack`."""

    def __init__(self, patch: pytest.MonkeyPatch, program: Program, views: Views) -> None:
        self._views, self._program = views, program
        self._packed: list[tuple[Words, int]] = []
        self._said: dict[tuple[int, int], list[tuple[Words, int]]] = {}  # operator, opening
        self._spoken = {0: 0, 1: 0}
        patch.setattr(operator, "pack", self._pack)
        patch.setattr(protocol, "operator_step", self._step)

    def end(self) -> None:
        """Puts together what both said."""
        openings = sorted({number for _, number in self._said})
        for number in openings:
            pairs = zip(self._said[0, number], self._said[1, number], strict=True)
            for (first, bits), (second, _) in pairs:
                key = (number, ("opening", bits))
                total = first ^ second if bits <= 8 else reduce(first + second, bits)
                self._views.opened[key].append(total.reshape(-1))
                self._views.owned[key].append(first.reshape(-1))
        self._said.clear()

    def _pack(self, words: Words, bits: int) -> bytes:
        self._packed.append((words, bits))
        return pack(words, bits)

    def _step(
        self, state: OperatorState, event: OperatorEvent
    ) -> tuple[OperatorState, tuple[FromOperator, ...]]:
        self._packed.clear()
        after, said = operator_step(state, event)
        me = 0 if _first(state) else 1
        if isinstance(event, Prepare):
            self._keep_material(me, event)
        if isinstance(event, Begin):
            bits, share = self._program.ring_bits, event.share
            words = unpack(share.words, bits, (share.count, *self._program.image))
            self._views.held[me, ("input share", bits)].append(words.reshape(-1))
        for message in said:
            self._keep_said(me, message)
        return after, said

    def _keep_said(self, me: int, message: FromOperator) -> None:
        name = type(message).__name__
        parts = [(words.reshape(-1), bits) for words, bits in self._packed]
        for words, bits in parts:
            if isinstance(message, AnswerShare):
                self._views.held[me, ("answer share", bits)].append(words)
            else:
                self._views.heard[1 - me, (name, bits)].append(words)
        if not isinstance(message, AnswerShare):
            self._said[me, self._spoken[me]] = parts
            self._spoken[me] += 1

    def _keep_material(self, me: int, event: Prepare) -> None:
        for one in event.materials:
            arrays = material.held(self._program, one.seed, one.corrections or None)
            for part in material.layout(self._program):
                words = arrays[part.step, part.name].reshape(-1)
                self._views.held[me, (f"material {part.name}", part.bits)].append(words)


def _first(state: OperatorState) -> bool:
    """Returns whether a state that hears something is operator 0's."""
    match state:
        case Computing():
            return state.prepared.model.first
        case Prepared():
            return state.model.first
        case Appointed() | Unmasking() | Holding():
            return state.first
        case _:
            raise AssertionError(type(state))


def watched(
    program: Program,
    weights: Weights,
    images: NDArray[np.float32],
    *,
    runs: int = 1,
    seed: int = 0,
) -> Views:
    """Returns what operators see of `runs` runs with fresh but fixed randomness."""
    views = Views(len(images))
    for run in range(runs):
        with pytest.MonkeyPatch.context() as patch:
            watch = Watch(patch, program, views)
            fixed = Randomness(bytes([seed, run]) * 16)
            run_inference(program, weights, images, fixed)
            watch.end()
    return views


# -- Tests of words -------------------------------------------------------------------


def p_value(values: NDArray[np.integer], kinds: int) -> float:
    """Returns the chance of a histogram as uneven as that of `values` in [0, kinds)."""
    expected = len(values) / kinds
    counts = np.bincount(values.astype(np.int64), minlength=kinds)
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return float(chi2.sf(statistic, kinds - 1))


def unevenness(words: Words, bits: int) -> Iterator[tuple[str, float]]:
    """Yields a p-value for each byte of words of a ring; the top one may have fewer bits."""
    for byte in range(-(-bits // 8)):
        width = min(8, bits - 8 * byte)
        values = (words.astype(np.uint64) >> np.uint64(8 * byte)) & np.uint64(2**width - 1)
        if len(values) >= ENOUGH << width:
            yield f"byte {byte}", p_value(values.astype(np.int64), 1 << width)


def tops(words: Words, bits: int) -> NDArray[np.int64]:
    """Returns the four highest bits."""
    return (words.astype(np.uint64) >> np.uint64(bits - 4)).astype(np.int64)


def _trimmed(arrays: list[Words], bits: int) -> Words:
    """Returns the words of all, without a last byte of packed bits, which may be filled up."""
    return np.concatenate([one[:-1] if bits == 8 else one for one in arrays])


def findings(views: Views) -> dict[str, float]:
    """Returns the p-value of every test, by name."""
    found: dict[str, float] = {}
    for where, kinds in (("held", views.held), ("heard", views.heard)):
        for (party, (name, bits)), arrays in kinds.items():
            for byte, p in unevenness(_trimmed(arrays, bits), bits):
                found[f"operator {party} {where} {name}/{bits} {byte}"] = p
    found.update(_opened(views))
    found.update(_apart(views))
    return found


def _opened(views: Views) -> Iterator[tuple[str, float]]:
    """Yields tests of what is opened: alone, and beside an own share."""
    pooled: Mapping[Kind, list[tuple[Words, Words]]] = defaultdict(list)
    for key, arrays in views.opened.items():
        pooled[key[1]].extend(zip(arrays, views.owned[key], strict=True))
    for (name, bits), pairs in pooled.items():
        opened = _trimmed([one for one, _ in pairs], bits)
        own = _trimmed([one for _, one in pairs], bits)
        for byte, p in unevenness(opened, bits):
            yield f"opened {name}/{bits} {byte}", p
        joint = tops(opened, bits) * 16 + tops(own, bits)
        if len(joint) >= ENOUGH * 256:
            yield f"opened {name}/{bits} beside an own share", p_value(joint, 256)


def _apart(views: Views) -> Iterator[tuple[str, float]]:
    """Yields tests of differences of what is opened for two images, weights left out."""
    pooled: Mapping[Kind, list[Words]] = defaultdict(list)
    for (number, (name, bits)), arrays in views.opened.items():
        if bits == 8 or number == 0 or views.count == 1:
            continue
        for opened in arrays:
            by_image = opened.reshape(views.count, -1)
            pooled[name, bits].append(reduce(by_image[1:] - by_image[:-1], bits).reshape(-1))
    for (name, bits), parts in pooled.items():
        for byte, p in unevenness(np.concatenate(parts), bits):
            yield f"opened {name}/{bits} of two images {byte}", p


def suspicious(views: Views) -> dict[str, float]:
    """Returns the tests that fail."""
    return {name: p for name, p in findings(views).items() if p < LEAST_P}


# -- Guards that tests take away ------------------------------------------------------


def without(patch: pytest.MonkeyPatch, name: str) -> None:
    """Lets every array of material called `name` be zero."""
    drawn = material.Expander.words

    def words(
        self: material.Expander, step: int, called: str, shape: tuple[int, ...], bits: int
    ) -> Words:
        made = drawn(self, step, called, shape, bits)
        return np.zeros_like(made) if called == name else made

    patch.setattr(material.Expander, "words", words)


def reused(patch: pytest.MonkeyPatch) -> None:
    """Lets the dealer deal the material of the first image to every image."""
    first: list[Deal] = []

    def step(state: DealerState, event: DealerEvent) -> tuple[DealerState, tuple[FromDealer, ...]]:
        if isinstance(event, Deal):
            first.append(event)
            event = first[0]
        return dealer_step(state, event)

    patch.setattr(protocol, "dealer_step", step)

# SPDX-License-Identifier: Apache-2.0
"""All parties together against the run in the clear; what is refused; what is seen."""

import os

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.inference.programs import every_step, some_images, some_weights
from tests.inference.test_comparison import flat

from consilium.errors import ConfigError, LocalProtocolError, OutOfTurn
from consilium.inference.cleartext import run_clear
from consilium.inference.dealer import Deal, Idle, dealer_step
from consilium.inference.messages import Exchange
from consilium.inference.operator import Appointed, operator_step
from consilium.inference.program import Open, Program, Truncate, check_program
from consilium.inference.protocol import Heard, Randomness, run_inference
from consilium.inference.weights import Weights


def fresh() -> Randomness:
    return Randomness(os.urandom(32))


@pytest.mark.parametrize("bits", [32, 40, 48, 56, 64])
@pytest.mark.parametrize("count", [1, 3])
def test_shares_compute_what_the_clear_computes(bits: int, count: int) -> None:
    program = every_step(bits)
    weights, images = some_weights(program), some_images(program, count)

    logits = run_inference(program, weights, images, fresh())

    # Each of 16 inputs of the last layer is a sum of roundings, at most 1 apart: 3 * 12 of them.
    most = 16 * 36 * 2**9 * program.unit
    assert np.abs(logits - run_clear(program, weights, images).logits).max() < most


def test_where_nothing_rounds_shares_compute_exactly() -> None:
    """Dropped bits are zero; the chance of a rounding up is 2**-43 a value."""
    program = every_step(64, dropped=43)
    small, images = some_weights(program, size=8), some_images(program, 2)
    matrix, bias = (kind[0] << np.uint64(43) for kind in (small.matrices, small.biases))
    weights = Weights((matrix, small.matrices[1]), (bias, small.biases[1]))

    logits = run_inference(program, weights, images, fresh())

    assert np.array_equal(logits, run_clear(program, weights, images).logits)


def test_an_image_alone_is_answered_as_in_a_batch() -> None:
    program = every_step()
    weights, images = some_weights(program), some_images(program, 4)

    together = run_inference(program, weights, images, fresh())
    alone = np.concatenate([run_inference(program, weights, one[None], fresh()) for one in images])

    assert np.abs(together - alone).max() < 16 * 36 * 2**9 * program.unit


# -- What operators see ---------------------------------------------------------------


def hear(images: NDArray[np.float32], randomness: Randomness) -> dict[int, bytes]:
    """Returns all that each operator hears of the other."""
    program = every_step()
    heard: Heard = []
    run_inference(program, some_weights(program), images, randomness, heard)
    return {k: b"".join(said.words for who, said in heard if who == k) for k in (0, 1)}


def wide_words(images: NDArray[np.float32], kind: int) -> NDArray[np.uint8]:
    """Returns the bytes of wide openings of many runs: image opening, and that of the sums."""
    program, found = every_step(), []
    for _ in range(60):
        heard: Heard = []
        run_inference(program, some_weights(program), images, fresh(), heard)
        found += [said.words for who, said in heard if who == kind and isinstance(said, Exchange)]
    return np.frombuffer(b"".join(one for one in found if len(one) % 5 == 0), np.uint8)


@pytest.mark.parametrize("operator", [0, 1])
@pytest.mark.parametrize("level", [0.0, 3.0])
def test_the_transcript_is_uniform_for_two_images(operator: int, level: float) -> None:
    program = every_step()
    images = np.full((4, *program.image), level, np.float32)

    assert flat(wide_words(images, operator), 256)


def test_two_runs_of_one_image_share_nothing() -> None:
    images = np.zeros((1, *every_step().image), np.float32)

    one, other = hear(images, fresh()), hear(images, fresh())

    assert one[0] != other[0]
    alike = np.frombuffer(one[0], np.uint8) == np.frombuffer(other[0], np.uint8)
    assert alike.mean() < 0.1


def test_no_seed_of_a_library_reaches_a_share() -> None:
    images = np.zeros((1, *every_step().image), np.float32)
    said = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        said.append(hear(images, fresh()))

    assert said[0] != said[1]


# -- Refusals -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "steps",
    [
        (Open(0),),
        (Open(5),),
        (Truncate(0, bits=0),),
        (Truncate(0, bits=20),),
        (Truncate(0, bits=3),),
    ],
)
def test_programs_that_cannot_be_carried_out_are_refused(
    steps: tuple[Open | Truncate, ...],
) -> None:
    whole = every_step()
    program = Program(whole.ring_bits, whole.image, 8, whole.weights, steps, 1.0)

    with pytest.raises(ConfigError):
        check_program(program)


def test_every_state_refuses_what_is_not_its_turn() -> None:
    with pytest.raises(OutOfTurn, match="Exchange while Appointed"):
        operator_step(Appointed(first=True), Exchange(bytes(16), 1, b""))
    with pytest.raises(OutOfTurn, match="Deal while Idle"):
        dealer_step(Idle(), Deal((b"1" * 32, b"2" * 32, b"3" * 32)))


def test_a_seed_twice_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="a seed twice"):
        dealer_step(Idle(), Deal((b"1" * 32, b"1" * 32, b"3" * 32)))

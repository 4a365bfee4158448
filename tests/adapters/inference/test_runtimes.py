# SPDX-License-Identifier: Apache-2.0
"""What every runtime must do: one suite, run by each of them, with the cleartext run as oracle."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.adapters.inference.runtimes import (
    TOLERANCE,
    compiled,
    images,
    plain_logits,
    started,
)

from consilium.adapters.inference.runtimes import InTheClear
from consilium.errors import DataError
from consilium.inference.runtime import Answered, Runtime, Spent

SPU = [pytest.mark.spu, pytest.mark.timeout(300)]
NAMES = [
    "in-the-clear",
    "in-process",
    "operators",
    pytest.param("spu-aby3", marks=SPU),
    pytest.param("spu-cheetah", marks=SPU),
]


@pytest.fixture(scope="module", params=NAMES)
def runtime(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runtime]:
    place: Path = tmp_path_factory.mktemp("runtime")
    with started(request.param, place) as made:
        yield made


def test_it_agrees_with_the_oracle_and_with_the_model(runtime: Runtime) -> None:
    oracle = InTheClear(compiled()).infer(images(3))

    found = runtime.infer(images(3))

    assert found.logits.shape == oracle.logits.shape == (3, 3)
    assert np.abs(found.logits - oracle.logits).max() < TOLERANCE
    assert np.abs(found.logits - plain_logits(3)).max() < TOLERANCE


def test_one_image_has_the_answer_that_it_has_in_a_batch(runtime: Runtime) -> None:
    whole = InTheClear(compiled()).infer(images(2))

    alone = runtime.infer(images(2)[1:])

    assert alone.logits.shape == (1, 3)
    assert np.abs(alone.logits[0] - whole.logits[1]).max() < TOLERANCE


@pytest.mark.parametrize("shape", [(1, 28, 27), (28, 28, 1), (3, 28, 28)])
def test_images_of_another_shape_are_refused(runtime: Runtime, shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="prepare them as the model's description says"):
        runtime.infer(np.zeros((1, *shape), np.float32))


def test_no_image_is_refused(runtime: Runtime) -> None:
    with pytest.raises(DataError, match=r"images of shape \(0, 1, 28, 28\)"):
        runtime.infer(images(1)[:0])


def test_it_says_who_is_trusted_and_what_was_spent(runtime: Runtime) -> None:
    found = runtime.infer(images(1))

    assert runtime.name
    assert any(word in runtime.trust for word in ("semi-honest", "sees image"))
    assert found.seconds > 0
    assert found.spent
    assert (found.cpu_seconds or 0) >= 0
    assert (found.sent_bytes is None) == (runtime.name == "in the clear")


def test_parties_that_tell_nothing_are_left_out_of_the_sums() -> None:
    spent = (Spent("a", 1.5, None), Spent("b", None, 7), Spent("c", 0.5, 2))

    found = Answered(logits=np.zeros((1, 2)), seconds=1.0, spent=spent)

    assert (found.cpu_seconds, found.sent_bytes) == (2.0, 9)
    nobody = Answered(logits=np.zeros((1, 2)), seconds=1.0, spent=())
    assert nobody.cpu_seconds is None
    assert nobody.sent_bytes is None

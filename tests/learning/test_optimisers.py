# SPDX-License-Identifier: Apache-2.0
"""Tests of the optimisers: equal to torch's step by step, immutable, serialisable."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from consilium.errors import ConfigError, DataError
from consilium.learning.optimisers import (
    Adam,
    Optimiser,
    OptimiserState,
    Sgd,
    initial,
    update,
)
from consilium.learning.parameters import Vector

OPTIMISERS: list[Optimiser] = [
    Sgd(),
    Sgd(0.9),
    Sgd(0.9, nesterov=True),
    Sgd(0.9, weight_decay=0.01),
    Sgd(0.5, nesterov=True, weight_decay=0.1),
    Adam(),
    Adam(beta1=0.0, beta2=0.9, eps=1e-3),
]


def vectors(count: int, dimension: int, seed: int) -> list[Vector]:
    generator = np.random.default_rng(seed)
    return list(generator.normal(size=(count, dimension)).astype(np.float32))


def torch_optimiser(
    optimiser: Optimiser, weights: torch.Tensor, rate: float
) -> torch.optim.Optimizer:
    if isinstance(optimiser, Adam):
        betas = (optimiser.beta1, optimiser.beta2)
        return torch.optim.Adam([weights], lr=rate, betas=betas, eps=optimiser.eps)
    return torch.optim.SGD(
        [weights],
        lr=rate,
        momentum=optimiser.momentum,
        nesterov=optimiser.nesterov,
        weight_decay=optimiser.weight_decay,
    )


# -- Against torch --------------------------------------------------------------------


@given(seed=st.integers(0, 2**32), rate=st.sampled_from([1e-3, 0.05, 0.3]))
@settings(max_examples=10, deadline=None)
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_twenty_steps_equal_those_of_torch(optimiser: Optimiser, seed: int, rate: float) -> None:
    weights, *gradients = vectors(21, 5, seed)
    theirs = torch.tensor(weights, requires_grad=True)
    reference = torch_optimiser(optimiser, theirs, rate)
    state = initial(optimiser, 5)

    for gradient in gradients:
        state, weights = update(optimiser, state, gradient, rate, weights)
        theirs.grad = torch.tensor(gradient)
        reference.step()

    np.testing.assert_allclose(weights, theirs.detach().numpy(), rtol=1e-6, atol=2e-6)


def test_a_step_of_sgd_by_hand() -> None:
    weights, gradient = np.array([1, 2], np.float32), np.array([0.5, -1], np.float32)

    _, moved = update(Sgd(), initial(Sgd(), 2), gradient, 0.5, weights)

    assert moved.tolist() == [0.75, 2.5]


def test_the_rate_of_each_step_is_its_own() -> None:
    weights, gradient = np.zeros(1, np.float32), np.ones(1, np.float32)
    state, weights = update(Sgd(0.5), initial(Sgd(0.5), 1), gradient, 1.0, weights)

    _, weights = update(Sgd(0.5), state, gradient, 0.5, weights)

    assert weights.tolist() == [-1 - 0.5 * 1.5]


# -- Values ---------------------------------------------------------------------------


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_update_changes_none_of_its_arguments(optimiser: Optimiser) -> None:
    gradient, weights = vectors(2, 4, seed=1)
    state, _ = update(optimiser, initial(optimiser, 4), gradient, 0.1, weights)
    before = [array.tobytes() for array in (state.first, state.second, gradient, weights)]

    update(optimiser, state, gradient, 0.1, weights)

    after = [array.tobytes() for array in (state.first, state.second, gradient, weights)]
    assert after == before


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_results_stay_float32(optimiser: Optimiser) -> None:
    gradient, weights = vectors(2, 4, seed=1)

    state, moved = update(optimiser, initial(optimiser, 4), gradient, 0.1, weights)

    assert {moved.dtype, state.first.dtype, state.second.dtype} == {np.dtype(np.float32)}


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_a_saved_state_continues_as_if_never_saved(optimiser: Optimiser) -> None:
    first, second, weights = vectors(3, 4, seed=1)
    state, weights = update(optimiser, initial(optimiser, 4), first, 0.1, weights)

    restored = OptimiserState.from_arrays(state.to_arrays())

    _, expected = update(optimiser, state, second, 0.1, weights)
    _, found = update(optimiser, restored, second, 0.1, weights)
    assert found.tobytes() == expected.tobytes()


def test_state_shows_no_numbers() -> None:
    assert repr(initial(Sgd(), 2)) == "OptimiserState(steps=0)"


# -- Refusals -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["steps", "first", "second"])
def test_a_saved_state_without_an_array_is_refused(name: str) -> None:
    arrays = initial(Adam(), 3).to_arrays()
    del arrays[name]

    with pytest.raises(DataError, match="expected int64 steps and float32 first"):
        OptimiserState.from_arrays(arrays)


@pytest.mark.parametrize("steps", [np.array([], np.int64), np.array([-1]), np.array([1, 2])])
def test_a_saved_state_without_a_count_is_refused(steps: NDArray[np.int64]) -> None:
    with pytest.raises(DataError, match="no count of steps"):
        OptimiserState.from_arrays({**initial(Adam(), 3).to_arrays(), "steps": steps})


@pytest.mark.parametrize(("sizes"), [(3, 4, 4), (4, 3, 4), (4, 4, 3)])
def test_shapes_that_differ_are_refused(sizes: tuple[int, int, int]) -> None:
    gradient, weights = np.zeros(sizes[1], np.float32), np.zeros(sizes[2], np.float32)

    with pytest.raises(ValueError, match="expected one shape"):
        update(Sgd(), initial(Sgd(), sizes[0]), gradient, 0.1, weights)


@pytest.mark.parametrize(("made", "used"), [(Sgd(), Adam()), (Adam(), Sgd())])
def test_the_state_of_another_optimiser_is_refused(made: Optimiser, used: Optimiser) -> None:
    vector = np.zeros(3, np.float32)

    with pytest.raises(ValueError, match="state belongs to another optimiser"):
        update(used, initial(made, 3), vector, 0.1, vector)


def test_float64_is_refused() -> None:
    weights = np.zeros(3, np.float32)

    with pytest.raises(ValueError, match="expected float32 for both"):
        update(Sgd(), initial(Sgd(), 3), np.zeros(3), 0.1, weights)  # type: ignore[arg-type] # on purpose


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Sgd(1.0), "momentum=1.0"),
        (lambda: Sgd(-0.1), "momentum=-0.1"),
        (lambda: Sgd(weight_decay=-1.0), "weight_decay=-1.0"),
        (lambda: Sgd(nesterov=True), "expected momentum > 0"),
        (lambda: Adam(beta1=1.0), "beta1=1.0"),
        (lambda: Adam(beta2=float("nan")), "beta2=nan"),
        (lambda: Adam(eps=0.0), "eps=0.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Callable[[], Optimiser], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make()

# SPDX-License-Identifier: Apache-2.0
"""Our prices against an accountant that shares no code with ours: Microsoft's `prv_accountant`.

It composes privacy random variables (Gopi et al. 2021, arXiv:2106.02848) and returns a lower and
an upper bound of epsilon, each a proven one.
"""

import pytest

from consilium.dp.accounting import epsilon, poisson_gaussian

prv = pytest.importorskip("prv_accountant", reason="needs the package prv-accountant")

SETTINGS = [
    (0.03425, 1.15, 300, 1e-5),
    (0.01, 1.0, 1000, 1e-5),
    (0.001, 0.8, 1000, 1e-6),
    (0.2, 2.375, 60, 1e-4),  # the recipe of pneumonia
    (0.05, 1.314, 200, 1e-5),  # of mnist
    (0.2, 1.533, 150, 1e-4),  # of retina
    (0.3, 1.0, 30, 1e-5),
    (0.02, 4.0, 5000, 1e-7),
    (0.5, 5.0, 200, 1e-5),
    (0.9, 10.0, 100, 1e-5),
    (0.004, 0.6, 500, 1e-5),
    (0.1, 1.5, 1, 1e-5),
    (0.0625, 2.5, 400, 1e-3),
]


@pytest.mark.parametrize(("q", "z", "steps", "delta"), SETTINGS)
def test_epsilon_is_within_the_bounds_of_another_library(
    q: float, z: float, steps: int, delta: float
) -> None:
    step = prv.PoissonSubsampledGaussianMechanism(noise_multiplier=z, sampling_probability=q)
    other = prv.PRVAccountant(
        prvs=[step], max_self_compositions=[steps], eps_error=0.02, delta_error=delta / 1000
    )
    least, estimate, most = other.compute_epsilon(delta, [steps])
    event = poisson_gaussian(sampling_probability=q, noise_multiplier=z, steps=steps)

    ours = epsilon(event, delta)

    assert least <= ours <= most
    assert ours == pytest.approx(estimate, rel=5e-4)
    assert estimate <= epsilon(event, delta, "rdp")

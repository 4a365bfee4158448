# SPDX-License-Identifier: Apache-2.0
"""Tests of the kinds of clipping: every engine against a slow oracle, their bounds, refusals."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from consilium.dp.bookkeeping import booked
from consilium.dp.clip_kinds import FLAT, Automatic, Clip, Counted, Flat, PerLayer, Quantile, Rule
from consilium.dp.clipping import PatientBatch, add_patients, sum_of_patients
from consilium.dp.norm_book import Budget, Method
from consilium.dp.per_patient import Chunk, Objective, looped, vmapped
from consilium.dp.sums import Sums
from consilium.errors import ConfigError

torch.set_num_threads(1)

BOUND = 0.3
NAMED = PerLayer((("0", 3.0), ("4.bias", 1.0), ("", 2.0)))
COUNTED = Counted(clip_norm=0.9, angle=0.2)
KINDS: dict[str, Rule] = {
    "flat": FLAT,
    "per layer": PerLayer(),
    "named parts": NAMED,
    "automatic": Automatic(gamma=0.05),
    "quantile": COUNTED,
}
METHODS: tuple[Method, ...] = ("store", "ghost", "drop")


def loss(outputs: Tensor, labels: Tensor) -> Tensor:
    return outputs.square().mean(1) + outputs[:, 0] * labels


def network(kind: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.Tanh(), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(16, 3)
    ).to(kind)


def chunk_of(patients: int, records: int = 2, seed: int = 0) -> Chunk:
    """Patients with gradients from far below to far above the clip norms."""
    torch.manual_seed(seed)
    scale = torch.logspace(-3, 2, patients, dtype=torch.float64)[:, None, None, None]
    inputs = torch.randn(patients, records, 2, 6, dtype=torch.float64) * scale
    labels = (torch.arange(records) + torch.arange(patients)[:, None]) % 3
    weights = torch.full((patients, records), 1 / records, dtype=torch.float64)
    return Chunk(inputs, labels, weights)


def gradient_of(model: nn.Module, chunk: Chunk, patient: int) -> dict[str, Tensor]:
    losses = loss(model(chunk.inputs[patient]), chunk.labels[patient])
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    trained = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad((losses * chunk.weights[patient]).sum(), trained)
    return dict(zip(names, found, strict=True))


def norm(parts: list[Tensor]) -> float:
    return math.sqrt(sum(float(part.square().sum()) for part in parts))


def flat(g: dict[str, Tensor]) -> list[Tensor]:
    return [min(1, BOUND / norm(list(g.values()))) * part for part in g.values()]


def per_layer(g: dict[str, Tensor]) -> list[Tensor]:
    share = BOUND / math.sqrt(len(g))
    return [min(1, share / norm([part])) * part for part in g.values()]


def named(g: dict[str, Tensor]) -> list[Tensor]:
    def family(name: str) -> str:
        return "0" if name[0] == "0" else "4.bias" if name == "4.bias" else ""

    shares = {"0": 3, "4.bias": 1, "": 2}
    factors = {}
    for one, weight in shares.items():
        size = norm([part for name, part in g.items() if family(name) == one])
        factors[one] = min(1, BOUND * weight / math.sqrt(14) / size)
    return [factors[family(name)] * part for name, part in g.items()]


def automatic(g: dict[str, Tensor]) -> list[Tensor]:
    return [BOUND / (norm(list(g.values())) + 0.05) * part for part in g.values()]


def quantile(g: dict[str, Tensor]) -> list[Tensor]:
    size = norm(list(g.values()))
    clipped = [min(1, 0.9 / size) * part for part in g.values()]
    mark = torch.ones(1).double() * BOUND * math.sin(0.2) * (1 if size <= 0.9 else -1)
    return [*(BOUND * math.cos(0.2) * part / 0.9 for part in clipped), mark]


ORACLES: dict[str, Callable[[dict[str, Tensor]], list[Tensor]]] = {
    "flat": flat,
    "per layer": per_layer,
    "named parts": named,
    "automatic": automatic,
    "quantile": quantile,
}


def oracle(model: nn.Module, chunk: Chunk, kind: str) -> Tensor:
    """One backward pass a patient, and the formula of the kind as one would write it down."""
    rows = [
        torch.cat([part.flatten() for part in ORACLES[kind](gradient_of(model, chunk, patient))])
        for patient in range(len(chunk.labels))
    ]
    return torch.stack(rows).sum(0)


def sum_by(engine: Callable[[Objective, Chunk, Sums, Clip], object], kind: str) -> Tensor:
    model, chunk = network(), chunk_of(9)
    clip = Clip(BOUND, KINDS[kind])
    objective = Objective(model, loss)
    sums = Sums(objective.trained(), clip.marks)
    engine(objective, chunk, sums, clip)
    return sums.bounded(math.inf, torch.float64)


def assert_exact(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert (found - expected).norm() <= 1e-10 * expected.norm()


# -- Every engine against the oracle --------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_book_keeping_is_the_oracle(kind: str, method: Method) -> None:
    def engine(objective: Objective, chunk: Chunk, sums: Sums, clip: Clip) -> None:
        assert booked(objective, chunk, sums, clip=clip, budget=Budget(method=method))

    assert_exact(sum_by(engine, kind), oracle(network(), chunk_of(9), kind))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["flat", "per layer", "automatic", "quantile"])
def test_weights_that_are_made_are_clipped_by_their_parameters(kind: str, method: Method) -> None:
    model, chunk = network(), chunk_of(9)
    model[0] = weight_norm(model[0])
    clip = Clip(BOUND, KINDS[kind])
    objective = Objective(model, loss)
    sums = Sums(objective.trained(), clip.marks)

    assert booked(objective, chunk, sums, clip=clip, budget=Budget(method=method))

    assert_exact(sums.bounded(math.inf, torch.float64), oracle(model, chunk, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_patients_by_torch_func_are_the_oracle(kind: str) -> None:
    found = sum_by(lambda *given: vmapped(*given[:3], clip=given[3]), kind)

    assert_exact(found, oracle(network(), chunk_of(9), kind))


@pytest.mark.parametrize("records", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_one_pass_a_patient_is_the_oracle(kind: str, records: int) -> None:
    found = sum_by(lambda *given: looped(*given[:3], clip=given[3], records=records), kind)

    assert_exact(found, oracle(network(), chunk_of(9), kind))


@pytest.mark.parametrize("records", range(1, 9))
@pytest.mark.parametrize("kind", KINDS)
def test_a_microbatch_of_any_size_gives_the_same_sum(kind: str, records: int) -> None:
    def engine(objective: Objective, chunk: Chunk, sums: Sums, clip: Clip) -> None:
        add_patients(objective, chunk, sums, clip=clip, budget=Budget(records=records))

    assert_exact(sum_by(engine, kind), oracle(network(), chunk_of(9), kind))


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_parameters_have_no_part(kind: str) -> None:
    model, chunk = network(), chunk_of(5)
    model[2].requires_grad_(requires_grad=False)
    clip = Clip(BOUND, KINDS[kind])
    objective = Objective(model, loss)
    sums = Sums(objective.trained(), clip.marks)

    add_patients(objective, chunk, sums, clip=clip, budget=Budget())

    assert_exact(sums.bounded(math.inf, torch.float64), oracle(model, chunk, kind))


def test_a_frozen_part_keeps_its_share() -> None:
    model, chunk = network(), chunk_of(5)
    model[4].bias.requires_grad = False
    objective = Objective(model, loss)
    sums = Sums(objective.trained())

    add_patients(objective, chunk, sums, clip=Clip(BOUND, NAMED), budget=Budget())

    expected = torch.zeros(sums.bounded(1.0, torch.float64).shape, dtype=torch.float64)
    for patient in range(5):
        g = {**gradient_of(model, chunk, patient), "4.bias": torch.ones(3).double()}
        expected += torch.cat([part.flatten() for part in named(g)[:-1]])
    assert_exact(sums.bounded(math.inf, torch.float64), expected)


# -- Places where nobody is present ---------------------------------------------------


@pytest.mark.parametrize("filler", [0.0, 3.0, math.nan])
@pytest.mark.parametrize("records", [1, 2, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_place_adds_nothing_whatever_lies_there(
    kind: str, records: int, filler: float
) -> None:
    model, chunk = network(), chunk_of(6)
    places = Chunk(
        torch.cat([chunk.inputs, torch.full_like(chunk.inputs[:3], filler)]),
        torch.cat([chunk.labels, chunk.labels[:3]]),
        torch.cat([chunk.weights, torch.zeros_like(chunk.weights[:3])]),
    )
    clip = Clip(BOUND, KINDS[kind])
    objective = Objective(model, loss)
    sums = Sums(objective.trained(), clip.marks)

    add_patients(objective, places, sums, clip=clip, budget=Budget(records=records))

    assert_exact(sums.bounded(math.inf, torch.float64), oracle(model, chunk, kind))


# -- The bound ------------------------------------------------------------------------


def batch_of(inputs: Tensor) -> PatientBatch:
    rows = torch.arange(len(inputs))
    return PatientBatch(inputs=inputs, labels=rows % 3, patients=rows)


def released(inputs: Tensor, rule: Rule, method: Method | None = None) -> Tensor:
    objective = Objective(network(torch.float32), loss)
    budget = Budget(method=method)
    return sum_of_patients(objective, batch_of(inputs), Clip(BOUND, rule), budget=budget).double()


@pytest.mark.parametrize("method", [None, *METHODS])
@pytest.mark.parametrize("value", [1e10, 1e18, 1e30, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_patient_moves_the_sum_by_at_most_the_bound(
    kind: str, value: float, method: Method | None
) -> None:
    both = torch.randn(4, 2, 6, generator=torch.Generator().manual_seed(3))
    both[3] = value

    moved = released(both, KINDS[kind], method) - released(both[:3], KINDS[kind], method)

    assert moved.isfinite().all()
    assert moved.norm() <= BOUND


rules = st.one_of(
    st.just(FLAT),
    st.just(PerLayer()),
    st.builds(lambda a, b: PerLayer((("0", a), ("", b))), st.floats(0.1, 9), st.floats(0.1, 9)),
    st.builds(Automatic, st.floats(1e-6, 10)),
    st.builds(Counted, st.floats(1e-6, 1e6), st.floats(0.01, 1)),
)


@settings(max_examples=60, deadline=None)
@given(rules, st.floats(-6, 12), st.integers(0, 99))
def test_one_patient_alone_is_within_the_bound(rule: Rule, exponent: float, seed: int) -> None:
    inputs = torch.randn(1, 2, 6, generator=torch.Generator().manual_seed(seed)) * 10**exponent

    assert released(inputs, rule).norm() <= BOUND


@pytest.mark.parametrize("kind", ["automatic", "quantile"])
def test_a_large_gradient_uses_nearly_all_of_the_bound(kind: str) -> None:
    torch.manual_seed(1)

    size = float(released(torch.randn(1, 2, 6) * 300, KINDS[kind]).norm())

    assert 0.9 * BOUND < size <= BOUND


def test_the_shares_of_parts_have_squares_that_sum_to_one() -> None:
    norms = torch.full((1, 3), 1e9, dtype=torch.float64)

    factors = NAMED.factors(norms, BOUND)

    assert float((factors * norms).norm()) == pytest.approx(BOUND, rel=1e-12)


def test_a_patient_without_gradient_counts_as_within_the_clip_norm() -> None:
    objective = Objective(nn.Sequential(nn.Linear(2, 1)), lambda outputs, _: 0 * outputs[:, 0])
    batch = PatientBatch(
        inputs=torch.randn(3, 2), labels=torch.zeros(3).long(), patients=torch.arange(3)
    )

    found = sum_of_patients(objective, batch, Clip(1.0, COUNTED))

    assert found.tolist() == pytest.approx([0, 0, 0, 3 * math.sin(0.2) * (1 - 1e-4)])


# -- The clip norm that follows -------------------------------------------------------

FOLLOWING = Quantile(quantile=0.7, learning_rate=0.5, angle=0.2)


def mean_of(fraction: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """A release without noise in which `fraction` of q N patients were not clipped."""
    return np.array([0.5, math.sin(0.2) * (2 * fraction - 1)], np.float32)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.7, 1.0])
def test_the_clip_norm_moves_against_the_fraction(fraction: float) -> None:
    found = FOLLOWING.following(mean_of(fraction), 2.0, 1.0)

    assert found == pytest.approx(2 * math.exp(-0.5 * (fraction - 0.7)), rel=1e-6)


@pytest.mark.parametrize(("fraction", "seen"), [(-9.0, 0.0), (9.0, 1.0)])
def test_a_fraction_that_noise_pushed_out_of_range_is_brought_back(
    fraction: float, seen: float
) -> None:
    found = FOLLOWING.following(mean_of(fraction), 2.0, 1.0)

    assert found == pytest.approx(FOLLOWING.following(mean_of(seen), 2.0, 1.0), rel=1e-6)


def test_the_gradient_comes_back_in_its_own_units() -> None:
    found = FOLLOWING.gradient(np.array([math.cos(0.2), -1.0], np.float32), 2.5)

    assert found.tolist() == pytest.approx([2.5])


def test_without_noise_the_clip_norm_finds_the_quantile() -> None:
    norms = torch.rand(1000, 1, generator=torch.Generator().manual_seed(0)).double() * 10
    found = [0.01]
    for _ in range(200):
        mark = FOLLOWING.at(found[-1]).mark(norms, 1.0)
        mean = np.array([0, float(mark.mean())], np.float32)
        found.append(FOLLOWING.following(mean, found[-1], 1.0))

    assert found[-1] == pytest.approx(7.0, abs=0.3)
    assert all(after / before <= math.exp(0.5) for before, after in pairwise(found))


def test_the_clip_norm_stays_within_a_million_of_the_first() -> None:
    found = 1.0
    for _ in range(1000):
        found = FOLLOWING.following(mean_of(0.0), found, 1.0)

    assert found == 1e6


# -- Refusals -------------------------------------------------------------------------

REFUSED: dict[str, Callable[[], object]] = {
    "a weight of 0": lambda: PerLayer((("0", 0.0),)),
    "a weight of nan": lambda: PerLayer((("0", math.nan),)),
    "a name twice": lambda: PerLayer((("0", 1.0), ("0", 2.0))),
    "gamma 0": lambda: Automatic(gamma=0.0),
    "gamma inf": lambda: Automatic(gamma=math.inf),
    "quantile 0": lambda: Quantile(quantile=0.0),
    "quantile 1": lambda: Quantile(quantile=1.0),
    "learning rate 0": lambda: Quantile(learning_rate=0.0),
    "angle 0": lambda: Quantile(angle=0.0),
    "angle nan": lambda: Quantile(angle=math.nan),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_number_out_of_range_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        REFUSED[name]()


def test_a_parameter_without_a_part_is_refused_by_name() -> None:
    rule = PerLayer((("0", 1.0), ("4", 1.0)))

    with pytest.raises(ConfigError, match=r"'2\.weight' belongs to none"):
        released(torch.zeros(1, 2, 6), rule)


def test_a_name_is_not_the_beginning_of_another() -> None:
    with pytest.raises(ConfigError, match=r"'10\.weight'"):
        PerLayer((("1", 1.0),)).parts(["1.weight", "10.weight"])


def test_kinds_are_values() -> None:
    assert Flat() == FLAT
    assert hash(PerLayer((("0", 1.0),))) == hash(PerLayer((("0", 1.0),)))

# SPDX-License-Identifier: Apache-2.0
"""Tests of the rounded Gaussian: its law, that it is exact, and the lemma on sums."""

import itertools
import math
from typing import cast

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special

from consilium.dp import noise
from consilium.dp.noise import rounded_gaussian, rounding_slack
from consilium.errors import PrivacyError
from consilium.keystream import BLOCK, Keystream

LENGTH = 400_000


class Scripted:
    """A stream that gives the bytes it was given, then zeros."""

    def __init__(self, *chunks: NDArray[np.uint32]) -> None:
        self._chunks = [chunk.tobytes() for chunk in chunks]

    def words(self, count: int, kind: type[np.uint32]) -> NDArray[np.uint32]:
        size = count * np.dtype(kind).itemsize
        chunk = self._chunks.pop(0) if self._chunks else b""
        return np.frombuffer(chunk.ljust(size, b"\0")[:size], kind)


def stream(key: int = 1) -> Keystream:
    return Keystream(key.to_bytes(32, "big"))


def constant(value: float, length: int = LENGTH) -> NDArray[np.float32]:
    return np.full(length, value, np.float32)


def draw(value: float, sigma: float, length: int = LENGTH) -> NDArray[np.int32]:
    return rounded_gaussian(constant(value, length), sigma, stream(), np.uint32).view(np.int32)


def distance(sample: NDArray[np.int32], mean: float, sigma: float) -> float:
    """Kolmogorov-Smirnov statistic times sqrt(length) against the rounded Gaussian."""
    integers = np.arange(sample.min(), sample.max() + 1)
    seen = np.searchsorted(np.sort(sample), integers, side="right") / sample.size
    expected = special.ndtr((integers + 0.5 - mean) / sigma)
    return float(np.abs(seen - expected).max() * math.sqrt(sample.size))


# -- The law --------------------------------------------------------------------------

LAWS = [(0.0, 2.5), (0.37, 3.0), (-11.5, 20.0), (1e6, 124.0), (0.25, 2e5)]


@pytest.mark.parametrize(("mean", "sigma"), LAWS)
def test_draws_have_the_stated_law(mean: float, sigma: float) -> None:
    assert distance(draw(mean, sigma), mean, sigma) < 2


@pytest.mark.parametrize("factor", [2 / 3, 3 / 2])
@pytest.mark.parametrize(("mean", "sigma"), LAWS)
def test_the_test_of_the_law_rejects_another_scale(
    mean: float, sigma: float, factor: float
) -> None:
    assert distance(draw(mean, sigma), mean, factor * sigma) > 20


@pytest.mark.parametrize(("mean", "sigma"), [(0.37, 3.0), (-11.5, 20.0)])
def test_every_integer_is_as_frequent_as_stated(mean: float, sigma: float) -> None:
    integers = np.arange(round(mean - 3 * sigma), round(mean + 3 * sigma) + 1)
    seen = (draw(mean, sigma)[:, None] == integers).sum(axis=0)

    upper = special.ndtr((integers + 0.5 - mean) / sigma)
    expected = LENGTH * (upper - special.ndtr((integers - 0.5 - mean) / sigma))
    chi_square = ((seen - expected) ** 2 / expected).sum()
    assert chi_square < integers.size + 6 * math.sqrt(2 * integers.size)


@pytest.mark.parametrize("sigma", [2.5, 1e6])
def test_the_two_halves_of_a_block_are_independent(sigma: float) -> None:
    block = draw(0.0, sigma, BLOCK // 4).astype(np.float64)

    cosine, sine = block.reshape(2, -1) / sigma

    assert abs((cosine * sine).mean()) < 5 / math.sqrt(cosine.size)
    assert abs(((cosine**2 - 1) * (sine**2 - 1)).mean()) < 10 / math.sqrt(cosine.size)


def test_one_key_gives_one_noise_and_another_key_another() -> None:
    values = constant(0.5, 100)
    first, again, other = (
        rounded_gaussian(values, 3.0, stream(key), np.uint16).tolist() for key in (1, 1, 2)
    )

    assert first == again
    assert first != other


def test_blocks_do_not_repeat_their_noise() -> None:
    first, second = draw(0.0, 50.0, BLOCK // 2).reshape(2, -1)

    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / math.sqrt(first.size)


# -- The ring -------------------------------------------------------------------------


@pytest.mark.parametrize("word", [np.uint16, np.uint32])
def test_values_wrap_modulo_the_word(word: type[np.uint16] | type[np.uint32]) -> None:
    values = constant(2.0**16 - 0.5 if word is np.uint16 else -0.5)

    out = rounded_gaussian(values, 3.0, stream(), word)

    signed = out.view(np.int16 if word is np.uint16 else np.int32).astype(np.float64)
    assert out.dtype == word
    assert abs(signed.mean() + 0.5) < 5 * 3.02 / math.sqrt(LENGTH)


@settings(max_examples=25)
@given(st.integers(0, 2000), st.integers(0, 2**32))
def test_words_of_both_sizes_agree_whatever_the_length(length: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(0, 1e4, length).astype(np.float32)

    narrow, wide = (
        rounded_gaussian(values, 30.0, stream(), word) for word in (np.uint16, np.uint32)
    )

    assert narrow.shape == (length,)
    assert narrow.tolist() == wide.astype(np.uint16).tolist()


# -- Exactness ------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [2.5, 7.0, 33.3, 124.0, 5000.0])
@pytest.mark.parametrize("low", [2.0**-20, 1 - 2.0**-20])
def test_float32_decides_only_what_no_lower_bit_can_change(
    sigma: float, low: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 1 << 32, 1 << 16, dtype=np.uint32)
    bits[: 1 << 12] |= np.uint32(0xFFE00000)  # many first uniforms next to 1
    bits[1 << 12 : 1 << 13] &= np.uint32(0x001FFFFF)  # and many next to 0
    values = rng.normal(0, 50, bits.size).astype(np.float32)
    doubted: list[NDArray[np.intp]] = []

    def leave(_: object, index: NDArray[np.intp], *__: object) -> NDArray[np.int64]:
        doubted.append(index)
        return np.zeros(index.size, np.int64)

    monkeypatch.setattr(noise, "_decide64", leave)

    source, scratch = cast("Keystream", Scripted(bits)), noise._Scratch(bits.size // 2)
    decided = noise._round_block(values, sigma, source, scratch)

    first, second = ((bits.reshape(2, -1) + low) * 2.0**-32).astype(np.float64)
    radius, angle = sigma * np.sqrt(-2 * np.log(first)), 2 * np.pi * second
    noisy = values + np.concatenate((radius * np.cos(angle), radius * np.sin(angle)))
    agrees = np.rint(noisy) == decided
    agrees[doubted[0]] = True
    assert agrees.all()


def test_float32_decides_nearly_everything() -> None:
    source, block = stream(), BLOCK // 4

    rounded_gaussian(constant(0.0, 100 * block), 39.0, source, np.uint16)

    assert repr(source) == "Keystream(at block 150)"  # two for all, one for the doubtful few


def test_float64_decides_only_what_more_bits_cannot_change() -> None:
    bits = np.random.default_rng(4).integers(0, 1 << 32, (2, 2, 300), dtype=np.uint32)
    index = np.arange(600)
    fraction = np.linspace(-0.5, 0.5, 600)
    source = cast("Keystream", Scripted(bits[1]))

    decided = noise._decide64(bits[0].ravel(), index, fraction, 40.0, source)

    uniforms = (bits[0].astype(object) << 32 | bits[1]) << 256
    first, second = uniforms.tolist()
    expected = [
        noise._decide_big(first[k % 300], second[k % 300], fraction[k], 40.0, sine=k >= 300)
        for k in range(600)
    ]
    assert decided.tolist() == expected


@pytest.mark.parametrize("first", [0, 2**32 - 1])
def test_a_uniform_in_the_tail_is_decided_by_big_floats(first: int) -> None:
    high = np.array([first, 0], np.uint32)
    low = np.array([first, 0], np.uint32)
    more = np.full(16, first, np.uint32)  # 256 bits of each uniform
    source = cast("Keystream", Scripted(high, low, more))

    found = rounded_gaussian(constant(0.25, 2), 100.0, source, np.uint32).view(np.int32)

    wide = (2**320 - 1 if first else 0, (2**256 - 1) if first else 0)
    assert found.tolist() == [noise._decide_big(*wide, 0.25, 100.0, sine=s) for s in (False, True)]


@settings(max_examples=40)
@given(st.integers(1, 2**64 - 1), st.integers(0, 2**64 - 1), st.floats(-0.5, 0.5), st.booleans())
def test_big_floats_agree_with_the_formula(
    first: int, second: int, fraction: float, sine: bool
) -> None:
    found = noise._decide_big(first << 256, second << 256, fraction, 5.0, sine=sine)

    angle = 2 * math.pi * second / 2**64
    wave = math.sin(angle) if sine else math.cos(angle)
    noisy = fraction + 5 * math.sqrt(-2 * math.log(first / 2**64)) * wave
    assert abs(found - noisy) < 0.5 + 1e-6


# -- The lemma ------------------------------------------------------------------------


def rounded_pmf(mean: mpmath.mpf, sigma: mpmath.mpf, integers: range) -> list[mpmath.mpf]:
    edges = [
        mpmath.ncdf((k - mpmath.mpf(1) / 2 - mean) / sigma) for k in (*integers, integers.stop)
    ]
    return [b - a for a, b in itertools.pairwise(edges)]


def smooth_density(x: mpmath.mpf, sites: int, sigma: mpmath.mpf) -> mpmath.mpf:
    """Density of N(0, sites * sigma**2) plus `sites` uniforms on [-1/2, 1/2], by Fourier."""

    def transform(t: mpmath.mpf) -> mpmath.mpf:
        return (
            mpmath.exp(-sites * (sigma * t) ** 2 / 2)
            * mpmath.sinc(t / 2) ** sites
            * mpmath.cos(t * x)
        )

    return (
        mpmath.quad(transform, mpmath.linspace(0, 24 / (sigma * mpmath.sqrt(sites)), 12))
        / mpmath.pi
    )


def test_the_sum_of_two_sites_is_within_the_slack_of_one_gaussian() -> None:
    with mpmath.workdps(50):
        sigma, means = mpmath.mpf(2.5), (mpmath.mpf("0.3"), mpmath.mpf("0.45"))
        integers = range(-45, 46)
        first, second = (rounded_pmf(mean, sigma, integers) for mean in means)
        ratios = [
            mpmath.log(
                sum(first[i + 45] * second[k - i + 45] for i in range(-40 + k, 41))
                / smooth_density(k - sum(means), 2, sigma)
            )
            for k in range(4)
        ]
        worst = max(abs(ratio) for ratio in ratios)

    assert worst <= rounding_slack(2.5, 2, 1)
    assert worst > 0.1 * rounding_slack(2.5, 2, 1)


def convolved(first: dict[int, mpmath.mpf], second: dict[int, mpmath.mpf]) -> dict[int, mpmath.mpf]:
    sums: dict[int, mpmath.mpf] = {}
    for (i, a), (j, b) in itertools.product(first.items(), second.items()):
        sums[i + j] = sums.get(i + j, mpmath.mpf(0)) + a * b
    return sums


@pytest.mark.parametrize(("sites", "sigma"), [(2, "0.8"), (3, "1.0"), (4, "1.3")])
def test_the_lemma_holds_in_sixty_digits(sites: int, sigma: str) -> None:
    """At less noise than is allowed, where the distance from one Gaussian can be seen."""
    with mpmath.workdps(60):
        scale = mpmath.mpf(sigma)
        means = [mpmath.mpf(k) / 7 for k in range(1, sites + 1)]
        integers = range(-16, 18)
        pmfs = [
            dict(zip(integers, rounded_pmf(mean, scale, integers), strict=True)) for mean in means
        ]
        total = pmfs[0]
        for pmf in pmfs[1:]:
            total = convolved(total, pmf)
        growth = mpmath.mpf(1)
        for j in range(1, sites):
            rate = mpmath.exp(-2 * mpmath.pi**2 * scale**2 * j / (j + 1))
            growth *= 1 + 2 * sum(rate ** (m * m) for m in range(1, 6))

        off = [abs(total[k] / smooth_density(k - sum(means), sites, scale) - 1) for k in range(3)]

    assert max(off) <= growth - 1
    assert max(off) > 1e-5 * (growth - 1)


def test_one_site_alone_has_no_slack() -> None:
    assert rounding_slack(2.5, 1, 31_000_000) == 0


def test_slack_is_negligible_for_a_large_model_at_the_least_noise() -> None:
    assert 0 < rounding_slack(2.5, 10, 31_000_000) < 1e-18


def test_slack_grows_with_sites_and_dimension_and_falls_with_noise() -> None:
    slack = rounding_slack(2.5, 3, 1000)

    assert rounding_slack(2.5, 4, 1000) > slack
    assert rounding_slack(2.5, 3, 2000) == pytest.approx(2 * slack)
    assert rounding_slack(3.0, 3, 1000) < slack


# -- Refusals -------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [2.49, 0.0, -3.0])
def test_too_little_noise_is_refused(sigma: float) -> None:
    with pytest.raises(PrivacyError, match="finer lattice"):
        rounded_gaussian(constant(0, 4), sigma, stream(), np.uint16)
    with pytest.raises(PrivacyError, match="finer lattice"):
        rounding_slack(sigma, 3, 100)


@pytest.mark.parametrize("sigma", [2.0**23, math.inf, math.nan])
def test_noise_beyond_the_ring_is_refused(sigma: float) -> None:
    with pytest.raises(ValueError, match="sigma"):
        rounded_gaussian(constant(0, 4), sigma, stream(), np.uint32)


@pytest.mark.parametrize("value", [2.0**23, -(2.0**23), math.inf, -math.inf, math.nan])
def test_a_value_out_of_range_is_refused(value: float) -> None:
    values = constant(0, 4)
    values[2] = value

    with pytest.raises(ValueError, match="finite"):
        rounded_gaussian(values, 3.0, stream(), np.uint32)


def test_values_of_another_shape_or_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="flat float32"):
        rounded_gaussian(np.zeros((2, 2), np.float32), 3.0, stream(), np.uint16)
    with pytest.raises(ValueError, match="flat float32"):
        rounded_gaussian(np.zeros(4).astype(np.float64), 3.0, stream(), np.uint16)


@pytest.mark.parametrize(("honest", "dimension"), [(0, 10), (3, 0)])
def test_slack_of_nothing_is_refused(honest: int, dimension: int) -> None:
    with pytest.raises(ValueError, match="honest"):
        rounding_slack(3.0, honest, dimension)

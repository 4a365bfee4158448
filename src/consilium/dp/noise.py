# SPDX-License-Identifier: Apache-2.0
"""Gaussian noise that is rounded to integers, exactly, and adds up across sites.

Each site adds real Gaussian noise to its real-valued vector and only then rounds, so
rounding is post-processing at the site. That the *sum* of several rounded vectors is as good
as one central Gaussian, rounded, is the lemma below; it is what the accountant relies on.

Lemma. Let Y be the sum over honest sites i = 1..K of round(mu_i + S Z_i), mu_i any reals,
Z_i standard normal, S in lattice units. For every integer k

    Pr[Y = k] = (1 + xi_k) h_K(k - sum mu_i),    |xi_k| <= prod_{j<K} (1 + eps_j) - 1,
    eps_j = 2 sum_{m>=1} exp(-2 pi^2 m^2 S^2 j / (j + 1)),

where h_K is the density of N(0, K S^2) plus K uniforms on [-1/2, 1/2]; and k -> h_K(k - mu)
is exactly the law of round(mu + N(0, K S^2) + K - 1 of those uniforms): post-processing of
the central Gaussian mechanism. Over d coordinates the log-ratio is at most d * xi a step.
Proof: one rounded Gaussian is h_1 at the integers. h_j convolved with h_1 over the integers
is a positive mixture of sums of products of two Gaussians, each a constant times a Gaussian
of variance S^2 j / (j + 1); by Poisson summation each sum is within 1 +- eps_j of its
integral, and positivity keeps that for the mixture. Induct on K; colluders are constants.

It fails when S < 2.5 (refused here: eps_j is no longer negligible), when a site's noise is
not independent of the others', or when a floating-point Gaussian takes the place of the
exact one. The last is why every draw here is the rounding of a real Gaussian, whose bits are
drawn as they are needed: 32 bits and float32 decide nearly all roundings, 64 bits and
float64 nearly all others, 320 bits and big floats the rest.

Not here: the choice of the lattice and of each site's share of the noise.
"""

import math
from typing import Final, TypeAlias, final

import mpmath
import numpy as np
from numpy.typing import NDArray

from consilium.errors import PrivacyError
from consilium.keystream import Keystream

LEAST_SIGMA: Final = 2.5  # lattice units; rounding then costs less than 1e-26 a coordinate
LARGEST: Final = 2.0**23  # values and sigma stay below: float32 then holds every half-integer

_PAIRS: Final = 1 << 16  # Box-Muller pairs a round; their words are two blocks of the stream
# What float32 and float64 may be off by, as a multiple of sigma, where neither uniform is
# in a tail. float32: angle 1.3e-6 and radius 0.4e-6 of at most 4.1 sigma, or radius 2.8e-6
# next to 1; every library function is given 4 ulp.
_ERROR32: Final = 1e-5
_ERROR64: Final = 1e-9
_TAIL32: Final = 1 << 20  # of 2**32
_TAIL64: Final = 1 << 34  # of 2**64
_MORE_WORDS: Final = 4  # 64-bit words of each uniform after its first

Ring: TypeAlias = NDArray[np.uint16 | np.uint32]  # shape (n,), modulo the word's size


# -- Noise ----------------------------------------------------------------------------


def rounded_gaussian(
    values: NDArray[np.float32],
    sigma: float,
    stream: Keystream,
    word: type[np.uint16] | type[np.uint32],
) -> Ring:
    """Returns floor(values + N(0, sigma**2) + 1/2), modulo the size of `word`.

    Args:
        values: Shape (length,), in lattice units, finite, below 2**23 in absolute value.
        sigma: Standard deviation in lattice units.
        stream: Of a key that nobody else holds, and that is used for this noise only.
        word: `np.uint16` or `np.uint32`.

    Guarantees:
        Coordinates are independent and each has exactly the stated law, up to the stream
        being AES and an event of probability 2**-200 a coordinate. The law depends on the
        real value only, so no low-order bit of a value survives as a pattern.
        Fails when the key is used twice: two outputs under one key share their noise.

    Raises:
        PrivacyError: `sigma` is below 2.5, where the sum over sites loses its guarantee.
        ValueError: `values` or `sigma` are out of range, or `values` is not flat float32.
    """
    _check_sigma(sigma)
    _check_values(values)
    out: Ring = np.empty(values.size, word)
    scratch = _Scratch(min(_PAIRS, (values.size + 1) // 2))
    for start in range(0, values.size, 2 * _PAIRS):
        part = values[start : start + 2 * _PAIRS]
        rounded = _round_block(part, sigma, stream, scratch)
        np.copyto(out[start : start + part.size], rounded, casting="unsafe")  # wraps
    return out


def rounding_slack(sigma: float, honest: int, dimension: int) -> float:
    """Returns the most by which rounding can move a log-probability of the sum, a step.

    Args:
        sigma: Standard deviation of each site's noise in lattice units.
        honest: Sites whose noise the adversary does not know.
        dimension: Coordinates of the vector.

    Guarantees:
        If the central Gaussian is (epsilon, delta) over all its steps, the distributed one
        is (epsilon + 2 * steps * slack, delta * exp(slack * steps)); for one site it is 0.

    Raises:
        PrivacyError: `sigma` is below 2.5.
        ValueError: `honest` or `dimension` is below 1, or `sigma` is out of range.
    """
    _check_sigma(sigma)
    if honest < 1 or dimension < 1:
        raise ValueError(f"{honest=} and {dimension=} must be >= 1")
    log_growth = 0.0
    for j in range(1, honest):
        first = math.exp(-2 * math.pi**2 * sigma**2 * j / (j + 1))
        log_growth += math.log1p(2 * first / (1 - first))  # >= eps_j: a geometric series
    return -dimension * math.log1p(-math.expm1(log_growth))


def _check_sigma(sigma: float) -> None:
    if not sigma < LARGEST:
        raise ValueError(f"{sigma=} must be below {LARGEST:.0f} lattice units")
    if sigma < LEAST_SIGMA:
        raise PrivacyError(f"{sigma=} lattice units; need >= {LEAST_SIGMA}: use a finer lattice")


def _check_values(values: NDArray[np.float32]) -> None:
    if values.ndim != 1 or values.dtype != np.float32:
        raise ValueError(f"values of shape {values.shape}, {values.dtype}; expected flat float32")
    if values.size and not max(values.max(), -values.min()) < LARGEST:  # also refuses NaN
        raise ValueError(f"values must be finite and below {LARGEST:.0f} in absolute value")


# -- One block: float32 decides where it can ------------------------------------------


@final
class _Scratch:
    """Arrays for the blocks of one call: fresh memory for each would cost as much as the noise."""

    __slots__ = ("noisy", "result", "uniforms", "whole")

    def __init__(self, pairs: int) -> None:
        self.uniforms = np.empty(2 * pairs, np.float32)
        self.noisy = np.empty(2 * pairs, np.float32)
        self.whole = np.empty(2 * pairs, np.int32)
        self.result = np.empty(2 * pairs, np.int32)


def _round_block(
    values: NDArray[np.float32], sigma: float, stream: Keystream, scratch: _Scratch
) -> NDArray[np.int32]:
    """Returns the rounded noisy values of one block, shape (values.size,); scratch's memory."""
    size, pairs = values.size, (values.size + 1) // 2
    bits = stream.words(2 * pairs, np.uint32)
    noisy = _gaussian32(bits, sigma, scratch)[:size]
    near = scratch.uniforms[:size]  # no longer needed
    whole, result = scratch.whole[:size], scratch.result[:size]
    np.rint(values, out=near)
    np.copyto(whole, near, casting="unsafe")
    np.subtract(values, near, out=near)  # exact
    noisy += near
    np.rint(noisy, out=near)
    np.copyto(result, near, casting="unsafe")
    result += whole
    noisy -= near
    np.abs(noisy, out=noisy)
    doubt = noisy > np.float32(0.5 - _ERROR32 * sigma)
    tail = _in_tail(bits[:pairs])
    doubt[:pairs] |= tail
    doubt[pairs:] |= tail[: size - pairs]
    index = np.flatnonzero(doubt)
    if index.size:
        close = values[index].astype(np.float64) - whole[index]
        result[index] = _decide64(bits, index, close, sigma, stream) + whole[index]
    return result


def _gaussian32(bits: NDArray[np.uint32], sigma: float, scratch: _Scratch) -> NDArray[np.float32]:
    """Returns Box-Muller draws in float32: cosines of all pairs, then sines."""
    pairs = bits.size // 2
    uniforms, out = scratch.uniforms[: bits.size], scratch.noisy[: bits.size]
    np.copyto(uniforms, bits, casting="unsafe")
    radius, angle = uniforms[:pairs], uniforms[pairs:]
    radius += np.float32(0.5)
    radius *= np.float32(2.0**-32)
    np.log(radius, out=radius)
    radius *= np.float32(-2 * sigma * sigma)
    np.sqrt(radius, out=radius)
    angle *= np.float32(2 * np.pi * 2.0**-32)
    np.cos(angle, out=out[:pairs])
    np.sin(angle, out=out[pairs:])
    out[:pairs] *= radius
    out[pairs:] *= radius
    return out


def _in_tail(first: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Returns where the radius is too sensitive for float32: first uniform next to 0 or 1."""
    shifted = first - np.uint32(_TAIL32)  # wraps, so that both ends become one interval
    return shifted >= np.uint32((1 << 32) - 2 * _TAIL32)


# -- The rest: more bits, and wider floats --------------------------------------------


def _decide64(
    bits: NDArray[np.uint32],
    index: NDArray[np.intp],
    fraction: NDArray[np.float64],
    sigma: float,
    stream: Keystream,
) -> NDArray[np.int64]:
    """Returns the rounding of `fraction` plus noise at `index`, with 32 more bits a uniform."""
    pairs = bits.size // 2
    pair, place = np.unique(index % pairs, return_inverse=True)  # cosine and sine share bits
    high = np.stack((bits[pair], bits[pairs + pair])).astype(np.uint64)
    low = stream.words(2 * pair.size, np.uint32).reshape(2, -1)
    uniforms = (high << np.uint64(32)) | low
    radius = sigma * np.sqrt(-2 * np.log((uniforms[0] + 0.5) * 2.0**-64))
    angle = uniforms[1] * (2 * np.pi * 2.0**-64)
    sine = index >= pairs
    noisy = fraction + radius[place] * np.where(sine, np.sin(angle)[place], np.cos(angle)[place])
    near: NDArray[np.int64] = np.rint(noisy).astype(np.int64)
    shifted = uniforms[0] - np.uint64(_TAIL64)  # wraps
    tail = shifted >= np.uint64((1 << 64) - 2 * _TAIL64)
    hard = (np.abs(noisy - near) > 0.5 - _ERROR64 * sigma) | tail[place]
    wide: dict[int, tuple[int, int]] = {}
    for k in np.flatnonzero(hard).tolist():
        if place[k] not in wide:
            wide[place[k]] = _widen(uniforms[:, place[k]], stream)
        first, second = wide[place[k]]
        near[k] = _decide_big(first, second, float(fraction[k]), sigma, sine=bool(sine[k]))
    return near


def _widen(uniforms: NDArray[np.uint64], stream: Keystream) -> tuple[int, int]:
    """Returns both uniforms of a pair with 256 more bits each, as integers below 2**320."""
    more = stream.words(2 * _MORE_WORDS, np.uint64).reshape(2, -1)
    first, second = np.column_stack((uniforms, more)).astype(">u8")
    return int.from_bytes(first.tobytes(), "big"), int.from_bytes(second.tobytes(), "big")


def _decide_big(first: int, second: int, fraction: float, sigma: float, *, sine: bool) -> int:
    """Returns the rounding of `fraction` plus noise, from uniforms of 320 bits."""
    bits = 64 * (1 + _MORE_WORDS)
    with mpmath.workprec(bits + 64):
        radius = sigma * mpmath.sqrt(-2 * mpmath.log((mpmath.mpf(first) + 0.5) / 2**bits))
        angle = 2 * mpmath.pi * second / 2**bits
        noise = radius * (mpmath.sin(angle) if sine else mpmath.cos(angle))
        return int(mpmath.floor(fraction + noise + 0.5))

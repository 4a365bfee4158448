# SPDX-License-Identifier: Apache-2.0
"""ML-KEM-768 encapsulation with given randomness, slow and plain: it plays draws again.

The library draws an encapsulation's randomness itself; here it is an argument, so that a run can
be repeated. Not for earnest: not constant in time. Whoever holds the key decapsulates with the
library, which holds this against OpenSSL. Source: FIPS 203, algorithms 5 to 14 and 17.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TypeAlias

from consilium import wire

Q, N, K = 3329, 256, 3
ETA, DU, DV = 2, 10, 4
Poly: TypeAlias = list[int]


def replayed(*who: wire.Part) -> Callable[[bytes], tuple[bytes, bytes]]:
    """Returns what draws the same for a key every time, and different things for others."""
    return lambda key: encapsulate(key, wire.digest("test encapsulation", *who, key))


@cache
def encapsulate(key: bytes, message: bytes) -> tuple[bytes, bytes]:
    """Returns secret and ciphertext for 32 bytes of randomness: algorithm 17."""
    made = hashlib.sha3_512(message + hashlib.sha3_256(key).digest()).digest()
    return made[:32], encrypt(key, message, made[32:])


def encrypt(key: bytes, message: bytes, randomness: bytes) -> bytes:
    """Returns the ciphertext of 32 bytes: algorithm 14."""
    t_hat = [decode(key[384 * i : 384 * (i + 1)], 12) for i in range(K)]
    y_hat = [ntt(noise(randomness, n)) for n in range(K)]
    u = []
    for i in range(K):
        column = [uniform(key[384 * K :] + bytes([i, j])) for j in range(K)]
        u.append(add(inverse_ntt(dot(column, y_hat)), noise(randomness, K + i)))
    mu = [decompress(bit, 1) for bit in decode(message, 1)]
    v = add(add(inverse_ntt(dot(t_hat, y_hat)), noise(randomness, 2 * K)), mu)
    return b"".join(packed(poly, DU) for poly in u) + packed(v, DV)


# -- Bytes and numbers ----------------------------------------------------------------


def decode(data: bytes, bits: int) -> Poly:
    whole = int.from_bytes(data, "little")
    return [whole >> (bits * i) & ((1 << bits) - 1) for i in range(N)]


def packed(poly: Poly, bits: int) -> bytes:
    whole = sum(compress(x, bits) << (bits * i) for i, x in enumerate(poly))
    return whole.to_bytes(N * bits // 8, "little")


def compress(x: int, bits: int) -> int:
    return ((x << (bits + 1)) + Q) // (2 * Q) % (1 << bits)


def decompress(x: int, bits: int) -> int:
    return (2 * Q * x + (1 << bits)) >> (bits + 1)


def uniform(seed: bytes) -> Poly:
    """Returns a polynomial of the matrix, transformed: algorithm 7."""
    stream = hashlib.shake_128(seed).digest(3 * N * 4)
    drawn = (
        value
        for a, b, c in zip(stream[::3], stream[1::3], stream[2::3], strict=True)
        for value in (a + 256 * (b % 16), b // 16 + 16 * c)
        if value < Q
    )
    return [next(drawn) for _ in range(N)]


def noise(seed: bytes, nonce: int) -> Poly:
    """Returns a polynomial of the centred binomial distribution: algorithm 8."""
    bits = decode(hashlib.shake_256(seed + bytes([nonce])).digest(64 * ETA), 2 * ETA)
    return [((x & 3).bit_count() - (x >> 2).bit_count()) % Q for x in bits]


# -- Polynomials ----------------------------------------------------------------------


def reversed7(i: int) -> int:
    return int(f"{i:07b}"[::-1], 2)


ZETAS = [pow(17, reversed7(i), Q) for i in range(128)]
GAMMAS = [pow(17, 2 * reversed7(i) + 1, Q) for i in range(128)]


def ntt(poly: Poly) -> Poly:
    f, i = list(poly), 1
    for length in (128, 64, 32, 16, 8, 4, 2):
        for start in range(0, N, 2 * length):
            for j in range(start, start + length):
                t = ZETAS[i] * f[j + length]
                f[j], f[j + length] = (f[j] + t) % Q, (f[j] - t) % Q
            i += 1
    return f


def inverse_ntt(poly: Poly) -> Poly:
    f, i = list(poly), 127
    for length in (2, 4, 8, 16, 32, 64, 128):
        for start in range(0, N, 2 * length):
            for j in range(start, start + length):
                t = f[j]
                f[j], f[j + length] = (t + f[j + length]) % Q, ZETAS[i] * (f[j + length] - t) % Q
            i -= 1
    return [3303 * x % Q for x in f]


def product(a: Poly, b: Poly) -> Poly:
    out = []
    for i, gamma in enumerate(GAMMAS):
        (a0, a1), (b0, b1) = a[2 * i : 2 * i + 2], b[2 * i : 2 * i + 2]
        out += [(a0 * b0 + a1 * b1 * gamma) % Q, (a0 * b1 + a1 * b0) % Q]
    return out


def add(a: Iterable[int], b: Iterable[int]) -> Poly:
    return [(x + y) % Q for x, y in zip(a, b, strict=True)]


def dot(a: Sequence[Poly], b: Sequence[Poly]) -> Poly:
    total = [0] * N
    for x, y in zip(a, b, strict=True):
        total = add(total, product(x, y))
    return total

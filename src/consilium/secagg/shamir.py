# SPDX-License-Identifier: Apache-2.0
"""Threshold sharing over the field of 2**255 - 19, one element at a time.

Guarantees: any `threshold` shares give the secret back; fewer say nothing about it, as long as
`randomness` is uniform, unknown and used for one secret. Shares carry no check of their own:
who must tell right from wrong ones commits to them. Timing depends on the values (Python
integers), so none of this belongs where an attacker measures single calls.
Source: Shamir 1979, "How to share a secret".
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from consilium import wire

PRIME: Final = 2**255 - 19
ELEMENT_BYTES: Final = 32


def to_element(uniform: bytes) -> int:
    """Returns a field element from 64 uniform bytes, within 2**-257 of uniform."""
    return int.from_bytes(uniform, "big") % PRIME


def point(site: int) -> int:
    """Returns the point of a site's shares; zero is where the secret lies."""
    return site + 1


def split(secret: int, points: Sequence[int], threshold: int, randomness: bytes) -> list[int]:
    """Returns one share of `secret` for each point; any `threshold` of them recover it.

    Args:
        secret: A field element.
        points: Distinct, in 1 to PRIME - 1; at least `threshold` of them.
        threshold: At least 1.
        randomness: 32 bytes that no other call gets.

    Raises:
        ValueError: The points repeat, contain zero, or are fewer than `threshold`.
    """
    if not 1 <= threshold <= len(points) or len(set(points)) != len(points) or 0 in points:
        raise ValueError(f"{len(points)} points for {threshold=}; expected distinct, none zero")
    coefficients = [
        to_element(wire.derive(randomness, "secagg polynomial", power))
        for power in range(threshold - 1, 0, -1)
    ]
    return [_evaluate([*coefficients, secret], point) for point in points]


def _evaluate(coefficients: Iterable[int], point: int) -> int:
    value = 0
    for coefficient in coefficients:  # Horner's rule, highest power first
        value = (value * point + coefficient) % PRIME
    return value


@lru_cache(maxsize=256)  # the points are public and rarely change between rounds
def weights(points: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the Lagrange weights at zero for `points`, which are distinct and not zero."""
    out = []
    for point in points:
        numerator = denominator = 1
        for other in points:
            if other != point:
                numerator = numerator * other % PRIME
                denominator = denominator * (other - point) % PRIME
        out.append(numerator * pow(denominator, -1, PRIME) % PRIME)
    return tuple(out)


def combine(shares: Mapping[int, int]) -> int:
    """Returns the secret behind exactly `threshold` shares, given as point -> share."""
    pairs = zip(weights(tuple(shares)), shares.values(), strict=True)
    return sum(weight * share for weight, share in pairs) % PRIME


# -- Tables of elements ---------------------------------------------------------------


def pack(elements: Iterable[int]) -> bytes:
    """Returns the elements side by side, 32 bytes each, big-endian."""
    return b"".join(element.to_bytes(ELEMENT_BYTES, "big") for element in elements)


def unpack(table: bytes) -> list[int]:
    """Returns the elements in `table`, each reduced into the field."""
    return [int.from_bytes(raw, "big") % PRIME for raw in rows(table)]


def rows(table: bytes) -> list[bytes]:
    """Returns the 32-byte rows of `table`."""
    return [table[k : k + ELEMENT_BYTES] for k in range(0, len(table), ELEMENT_BYTES)]

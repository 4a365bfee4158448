# SPDX-License-Identifier: Apache-2.0
"""What every site approves before it takes part; the digest of it is in every key.

A `SumJob` cannot be built with numbers that void a guarantee:

    2 * threshold > sites + colluders   two lists of survivors can never both be opened
    colluders <= threshold - 2          at least two honest sites are in every sum
    sites >= 3                          with two, a site's vector is the sum less the other

Not here: what the vectors mean. Model, clipping, noise, sampling and budget enter as `terms`.
Source: Bonawitz et al. 2017 (ia.cr/2017/281), theorem 6.5, for the first rule.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from consilium import wire
from consilium.errors import ConfigError

FEWEST_SITES: Final = 3
KEY_BYTES: Final = 32
DIGEST_BYTES: Final = 32
FEWEST_BITS: Final = 12
MOST_BITS: Final = 32

Vector: TypeAlias = NDArray[np.uint16 | np.uint32]  # shape (length,), modulo the word's size


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SumJob:
    """The fixed terms of one secure sum, the same at every party.

    Args:
        name: Of the job, for people.
        identities: Ed25519 public key of each site, 32 bytes; a site is its index here.
        threshold: Sites that must answer before a sum opens (T).
        colluders: Sites that may side with the coordinator (t).
        tolerated_drops: Sites that a round may lose between its plan and its sum (D).
        length: Entries of a vector.
        bits: Of an entry that matter, 12 to 32. Words are 16 bits wide up to 16, then 32.
        terms: Digest of everything else that the sites approved, 32 bytes.
        post_quantum: ML-KEM-768 beside X25519 in every pair's keys; set-up takes one message more.

    Raises:
        ConfigError: The numbers would void a guarantee, or cannot be meant.
    """

    name: str
    identities: tuple[bytes, ...]
    threshold: int
    colluders: int
    tolerated_drops: int
    length: int
    bits: int
    terms: bytes
    post_quantum: bool = False

    def __post_init__(self) -> None:
        """Refuses what the rules above exclude."""
        _check_identities(self.identities)
        _check_threshold(len(self.identities), self.threshold, self.colluders)
        most = len(self.identities) - self.threshold
        if not 0 <= self.tolerated_drops <= most:
            raise ConfigError(
                f"tolerated_drops={self.tolerated_drops}; expected 0 to {most}, the sites beyond "
                f"threshold={self.threshold}; lower one of the two"
            )
        if not FEWEST_BITS <= self.bits <= MOST_BITS:
            raise ConfigError(
                f"bits={self.bits}; expected {FEWEST_BITS} to {MOST_BITS}; 16 suits most models"
            )
        if self.length < 1:
            raise ConfigError(f"length={self.length}; expected at least 1; give the dimension")
        if len(self.terms) != DIGEST_BYTES:
            raise ConfigError(
                f"terms of {len(self.terms)} bytes; expected {DIGEST_BYTES}; give their digest"
            )

    @property
    def word(self) -> np.dtype[np.uint16 | np.uint32]:
        """The type of a vector's entries, in the byte order of the wire."""
        return np.dtype("<u2") if self.bits <= 16 else np.dtype("<u4")

    @property
    def vector_bytes(self) -> int:
        """Bytes of one vector on the wire."""
        return self.length * self.word.itemsize

    def least(self, members: int) -> int:
        """Returns the fewest sites in any sum opened in a round of `members` sites."""
        return max(self.threshold, members - self.tolerated_drops)

    def honest(self, members: int) -> int:
        """Returns the fewest honest sites in such a sum: each adds 1/honest of the variance."""
        return self.least(members) - self.colluders

    def digest(self) -> bytes:
        """Returns the 32 bytes that stand for this job in every signature and key."""
        return wire.digest(
            "secagg job",
            self.name,
            self.identities,
            self.threshold,
            self.colluders,
            self.tolerated_drops,
            self.length,
            self.bits,
            self.terms,
            self.post_quantum,
        )


def smallest_threshold(sites: int, colluders: int) -> int:
    """Returns the smallest threshold that the rules allow, which tolerates the most drops.

    >>> smallest_threshold(10, 1), smallest_threshold(3, 1)
    (6, 3)

    Raises:
        ConfigError: No threshold withstands so many colluders among so few sites.
    """
    threshold = max((sites + colluders) // 2 + 1, colluders + 2)
    _check_threshold(sites, threshold, colluders)
    return threshold


def _check_identities(identities: tuple[bytes, ...]) -> None:
    if any(len(identity) != KEY_BYTES for identity in identities):
        raise ConfigError(f"an identity is not {KEY_BYTES} bytes; give raw Ed25519 public keys")
    if len(set(identities)) != len(identities):
        raise ConfigError("an identity is listed twice; expected one per site; remove the copy")


def _check_threshold(sites: int, threshold: int, colluders: int) -> None:
    if sites < FEWEST_SITES:
        raise ConfigError(
            f"{sites} sites; expected at least {FEWEST_SITES}, as a sum over fewer shows single "
            "vectors; add sites, or train without a secure sum"
        )
    if not 0 <= colluders <= threshold - 2:
        raise ConfigError(
            f"colluders={colluders}; expected 0 to threshold - 2 = {threshold - 2}, so that two "
            "honest sites are in every sum; raise the threshold or lower the colluders"
        )
    if not sites + colluders < 2 * threshold <= 2 * sites:
        raise ConfigError(
            f"threshold={threshold} with {sites} sites and colluders={colluders}; expected more "
            f"than {(sites + colluders) / 2:g} and at most {sites}; use smallest_threshold()"
        )

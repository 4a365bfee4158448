# SPDX-License-Identifier: Apache-2.0
"""Randomness that protects people: always the operating system's, never seeded.

Ports: `Source`, and `Encapsulator` of the secure sum.
"""

import os
from collections.abc import Callable
from typing import Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

SECRET_BYTES: Final = 32

Source: TypeAlias = Callable[[], bytes]  # 32 fresh bytes a call


def operating_system() -> bytes:
    """Returns 32 bytes of the operating system's generator."""
    return os.urandom(SECRET_BYTES)


def encapsulate(key: bytes) -> tuple[bytes, bytes]:
    """Returns a fresh ML-KEM-768 secret, and its ciphertext for this encapsulation key.

    OpenSSL draws it, from a generator that the operating system seeds.
    """
    return MLKEM768PublicKey.from_public_bytes(key).encapsulate()

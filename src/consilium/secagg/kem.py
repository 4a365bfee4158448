# SPDX-License-Identifier: Apache-2.0
"""ML-KEM-768: a second secret for each pair of sites, against a quantum computer of later years.

A job that says `post_quantum` mixes it with the pair's X25519 secret (`keys.hybrid_secret`):
who breaks one of the two learns no chain. Of each pair the site with the lower number
encapsulates to the other, once a session.

Here are keys, checks and decapsulation, which follow from a site's session secret. The library
draws the randomness of an encapsulation itself, so that is a port, passed in like a secret;
what it draws is for one event only.
Decapsulation refuses nothing of the right size: a false ciphertext gives a secret that its
sender does not hold.
Source: FIPS 203, parameter set ML-KEM-768.
"""

from typing import Final, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey

from consilium import wire
from consilium.errors import ConfigError

ENCAPSULATION_KEY_BYTES: Final = 1184
CIPHERTEXT_BYTES: Final = 1088


class Encapsulator(Protocol):
    """Draws secrets for the holders of keys; the adapter's come from the operating system."""

    def __call__(self, key: bytes, /) -> tuple[bytes, bytes]:
        """Returns a fresh secret of 32 bytes, and the ciphertext that gives it to `key`'s owner."""
        ...


def encapsulation_key(secret: bytes) -> bytes:
    """Returns the ML-KEM-768 encapsulation key that belongs to a site's session secret.

    Raises:
        ConfigError: The installed library has no ML-KEM.
    """
    return _private_key(secret).public_key().public_bytes_raw()


def check_encapsulation_key(key: bytes) -> None:
    """Refuses what is no encapsulation key.

    Raises:
        ValueError: Another size, or numbers that are not reduced (FIPS 203, section 7.2).
    """
    MLKEM768PublicKey.from_public_bytes(key)


def decapsulate(secret: bytes, ciphertext: bytes) -> bytes:
    """Returns the secret in a ciphertext of 1088 bytes for the key of this session secret."""
    return _private_key(secret).decapsulate(ciphertext)


def _private_key(secret: bytes) -> MLKEM768PrivateKey:
    try:
        return MLKEM768PrivateKey.from_seed_bytes(wire.derive(secret, "secagg ml-kem-768"))
    except UnsupportedAlgorithm as error:
        raise ConfigError(
            "post_quantum is set, but the installed cryptography has no ML-KEM-768; expected one "
            "built with OpenSSL 3.5 or later; install its wheel, or leave post_quantum out"
        ) from error

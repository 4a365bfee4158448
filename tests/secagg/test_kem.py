# SPDX-License-Identifier: Apache-2.0
"""ML-KEM-768: the library against the plain arithmetic of FIPS 203, and what is refused."""

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from tests.secagg import fips203
from tests.secagg.conftest import secret

from consilium import wire
from consilium.adapters.randomness import encapsulate
from consilium.errors import ConfigError
from consilium.secagg import kem

KEY = kem.encapsulation_key(secret("begin"))


@pytest.mark.parametrize("number", range(8))
def test_the_library_opens_what_the_standard_encapsulates(number: int) -> None:
    key = kem.encapsulation_key(secret("owner", number))

    shared, ciphertext = fips203.encapsulate(key, secret("message", number))

    assert kem.decapsulate(secret("owner", number), ciphertext) == shared


def test_what_the_adapter_draws_is_opened_by_the_owner() -> None:
    shared, ciphertext = encapsulate(KEY)

    assert kem.decapsulate(secret("begin"), ciphertext) == shared
    assert len(shared) == 32


def test_every_draw_is_fresh() -> None:
    draws = [encapsulate(KEY) for _ in range(50)]

    assert len({shared for shared, _ in draws}) == len({text for _, text in draws}) == 50


def test_sizes_are_those_of_the_standard() -> None:
    assert len(KEY) == kem.ENCAPSULATION_KEY_BYTES == 384 * 3 + 32
    assert len(encapsulate(KEY)[1]) == kem.CIPHERTEXT_BYTES == 32 * (10 * 3 + 4)


def test_a_key_follows_from_its_secret_alone() -> None:
    assert kem.encapsulation_key(secret("begin")) == KEY != kem.encapsulation_key(secret("other"))


def test_the_seed_is_no_other_key_of_the_site() -> None:
    """Else a broken X25519 key would give the first half of the ML-KEM seed, which is enough."""
    for use in ("secagg x25519", "secagg own secret"):
        seed = wire.derive(secret("begin"), use)
        assert MLKEM768PrivateKey.from_seed_bytes(seed).public_key().public_bytes_raw() != KEY


def test_a_library_without_ml_kem_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lacking:
        @staticmethod
        def from_seed_bytes(_seed: bytes) -> None:
            raise UnsupportedAlgorithm("ML-KEM-768")

    monkeypatch.setattr(kem, "MLKEM768PrivateKey", Lacking)

    with pytest.raises(ConfigError, match="install its wheel, or leave post_quantum out"):
        kem.encapsulation_key(secret("begin"))


@pytest.mark.parametrize("change", [0, 500, 1087])
def test_a_false_ciphertext_gives_a_secret_that_its_sender_lacks(change: int) -> None:
    shared, ciphertext = encapsulate(KEY)
    false = bytearray(ciphertext)
    false[change] ^= 1

    assert kem.decapsulate(secret("begin"), bytes(false)) != shared


@pytest.mark.parametrize("key", [b"", KEY[:-1], KEY + b"\0", b"\xff" * 1184])
def test_what_is_no_encapsulation_key_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match="ML-KEM-768"):
        kem.check_encapsulation_key(key)

# SPDX-License-Identifier: Apache-2.0
import pytest
from argon2 import PasswordHasher

from consilium.adapters.identity.passwords import check_password, hash_password
from consilium.errors import ConfigError

GOOD = "correct horse battery staple"


def test_the_right_password_matches() -> None:
    kept = hash_password(GOOD, name="rossi")

    assert check_password(kept, GOOD).matches


def test_another_password_does_not_match() -> None:
    kept = hash_password(GOOD, name="rossi")

    assert not check_password(kept, GOOD + "r").matches


def test_hash_holds_no_password() -> None:
    kept = hash_password(GOOD, name="rossi")

    assert kept.startswith("$argon2id$")
    assert GOOD not in kept


def test_two_hashes_of_one_password_differ() -> None:
    assert hash_password(GOOD, name="rossi") != hash_password(GOOD, name="rossi")


def test_an_older_hash_gets_a_newer_one() -> None:
    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(GOOD)

    checked = check_password(weak, GOOD)

    assert checked.matches
    assert checked.newer is not None
    assert check_password(checked.newer, GOOD).newer is None


@pytest.mark.parametrize("kept", [None, "", "admin", "$argon2id$v=19$m=8"])
def test_no_account_matches_no_password(kept: str | None) -> None:
    assert not check_password(kept, "admin").matches


def test_an_account_that_does_not_exist_matches_not_even_its_stand_in() -> None:
    assert not check_password(None, "an account that does not exist").matches


@pytest.mark.parametrize(
    "password", ["admin", "short-one-1", "x" * 257, "aaaaaaaaaaaabbbb", "Rossi-rossi-rossi-12"]
)
def test_weak_passwords_are_refused(password: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        hash_password(password, name="rossi")


def test_a_check_does_not_print_a_hash() -> None:
    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(GOOD)

    assert "argon2" not in repr(check_password(weak, GOOD))

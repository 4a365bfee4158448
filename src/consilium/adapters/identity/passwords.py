# SPDX-License-Identifier: Apache-2.0
"""Passwords: hashed by Argon2id, checked in the same time whether or not the account exists.

Guarantees: a hash holds its own parameters; whoever logs in with an older hash gets a newer one.
Source: RFC 9106, section 4, second recommended option (64 MiB, 3 passes), as argon2-cffi has it.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from threading import BoundedSemaphore
from typing import Final, final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from consilium.errors import ConfigError

FEWEST: Final = 12  # characters
MOST: Final = 256
_FEWEST_KINDS: Final = 5  # different characters
_HASHER: Final = PasswordHasher()
_TURNS: Final = BoundedSemaphore(4)  # hashes at once: each takes 64 MiB


@final
@dataclass(frozen=True, slots=True)
class Checked:
    """What a comparison found.

    Attributes:
        matches: The password is the one that was hashed.
        newer: Its hash by today's parameters, where they changed; None where they did not.
    """

    matches: bool
    newer: str | None = field(default=None, repr=False)


def hash_password(password: str, *, name: str) -> str:
    """Returns the Argon2id hash of a new password, with its salt and parameters.

    Args:
        password: What the person chose.
        name: The account's, which the password may not hold.

    Raises:
        ConfigError: It is too short, too long, of too few characters, or holds the name.
    """
    if not FEWEST <= len(password) <= MOST:
        raise ConfigError(
            f"the password has {len(password)} characters; expected {FEWEST} to {MOST}: "
            "several words that do not belong together are easy to keep in mind"
        )
    if len(set(password)) < _FEWEST_KINDS:
        raise ConfigError(
            f"the password has fewer than {_FEWEST_KINDS} different characters; expected more"
        )
    if name and name.casefold() in password.casefold():
        raise ConfigError("the password holds the account's name; expected one that does not")
    return _hash(password)


def check_password(kept: str | None, password: str) -> Checked:
    """Returns whether `password` is the one behind `kept`; None costs the same time."""
    if len(password) > MOST:
        return Checked(matches=False)
    try:
        with _TURNS:
            _HASHER.verify(_nobodys() if kept is None else kept, password)
    except (VerificationError, InvalidHashError):
        return Checked(matches=False)
    if kept is None:
        return Checked(matches=False)
    newer = _hash(password) if _HASHER.check_needs_rehash(kept) else None
    return Checked(matches=True, newer=newer)


@lru_cache(maxsize=1)
def _nobodys() -> str:
    """Returns a hash that stands in for accounts that do not exist."""
    return _HASHER.hash("an account that does not exist")


def _hash(password: str) -> str:
    with _TURNS:
        return _HASHER.hash(password)

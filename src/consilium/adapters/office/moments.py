# SPDX-License-Identifier: Apache-2.0
"""The time, and names for new things: both come from outside, so that tests can give them."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TypeAlias

Clock: TypeAlias = Callable[[], datetime]
Names: TypeAlias = Callable[[datetime], str]
_LETTERS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's 32
_LENGTH: Final = 26


def system_clock() -> datetime:
    """Returns now, in UTC."""
    return datetime.now(UTC)


def new_name(now: datetime) -> str:
    """Returns a ULID: 48 bits of milliseconds, 80 bits of the operating system's randomness."""
    value = int(now.timestamp() * 1000) << 80 | int.from_bytes(os.urandom(10), "big")
    return "".join(_LETTERS[value >> 5 * k & 31] for k in reversed(range(_LENGTH)))

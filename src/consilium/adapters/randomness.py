# SPDX-License-Identifier: Apache-2.0
"""Randomness that protects people: always the operating system's, never seeded."""

import os
from collections.abc import Callable
from typing import Final, TypeAlias

SECRET_BYTES: Final = 32

Source: TypeAlias = Callable[[], bytes]  # 32 fresh bytes a call


def operating_system() -> bytes:
    """Returns 32 bytes of the operating system's generator."""
    return os.urandom(SECRET_BYTES)

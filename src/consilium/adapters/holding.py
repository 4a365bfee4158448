# SPDX-License-Identifier: Apache-2.0
"""A folder that one process holds at a time, as long as it lives; a crash lets go of it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from consilium.errors import ConfigError


@contextmanager
def hold(folder: Path, what: str) -> Iterator[None]:
    """Holds `folder`, which exists, until the block ends.

    Args:
        folder: To be held; not on a network file system without locks.
        what: The folder is for, in words.

    Raises:
        ConfigError: Another process holds it.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        _lock(handle, f"{what} {folder.name}")
        yield
    finally:
        os.close(handle)


def _lock(handle: int, what: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(
            f"{what} is in use by another process; expected one at a time: wait for it, or end it"
        ) from None

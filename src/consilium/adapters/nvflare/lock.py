# SPDX-License-Identifier: Apache-2.0
"""One process a kit: a party that is started twice by mistake is refused.

The lock is the kernel's (`flock`): it ends with its process, however that ends. It is handed on
when our command becomes NVFlare's process, and not to what that starts.
"""

import fcntl
import os
from pathlib import Path
from typing import Final

from consilium.errors import ConfigError

_FILE: Final = "running.lock"
_VARIABLE: Final = "CONSILIUM_KIT_LOCK"  # the number of the open file, on the way to NVFlare


def hold(kit: Path) -> None:
    """Holds the kit for this process and what it becomes.

    Raises:
        ConfigError: Another process holds it.
    """
    descriptor = os.open(kit / "consilium" / _FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise ConfigError(
            f"kit {kit.name} is already served by process {holder}; expected one process a kit: "
            "end that one first, or leave it running and do nothing"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    os.set_inheritable(descriptor, True)
    os.environ[_VARIABLE] = str(descriptor)


def keep_lock_here() -> None:
    """Keeps what this process starts from inheriting the lock."""
    number = os.environ.pop(_VARIABLE, None)
    if number is not None:
        os.set_inheritable(int(number), False)

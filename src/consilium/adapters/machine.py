# SPDX-License-Identifier: Apache-2.0
"""What our own programs ask of the process they run in; a library must not ask it of its host."""

import ctypes
import socket
from typing import Final

import torch

# Parameters of glibc's mallopt, from malloc.h.
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_KEPT_BYTES: Final = 1 << 28  # freed memory that stays, and the largest value that is kept


def use_threads(count: int) -> None:
    """Sets how many threads one tensor operation may use in this process."""
    torch.set_num_threads(max(1, count))


def compute_device() -> torch.device:
    """Returns where models of this process compute: the first GPU if there is one, else the CPU.

    float32 is float32 on a GPU too: no rounding of products that a clip does not know of.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda", 0)


def keep_freed_memory() -> bool:
    """Lets freed memory stay in the process; returns whether the C library can.

    A training step frees and takes the same large values again and again. Each would be fresh
    pages, which on virtual machines cost as much as the arithmetic. The process stays as large
    as it once was, up to a quarter of a gigabyte more than it needs. Only glibc knows of it.
    """
    tell = getattr(ctypes.CDLL(None), "mallopt", None)
    if tell is None:
        return False
    return all(tell(name, _KEPT_BYTES) == 1 for name in (_TRIM_THRESHOLD, _MMAP_THRESHOLD))


def free_ports(count: int) -> list[int]:
    """Returns ports of this machine that nobody listens on now, all different."""
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in taken]
    for one in taken:
        one.close()
    return ports

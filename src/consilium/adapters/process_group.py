# SPDX-License-Identifier: Apache-2.0
"""A team of processes by `torch.distributed`: several devices of one site, started by torchrun.

    torch.distributed.init_process_group("gloo")  # or "nccl"
    parts = Parts(..., team=ProcessGroup())

Every process holds the model, an optimiser and all records. The secret of each step goes over
the group in clear: use it within one machine, or over a network that nobody else reads.
"""

from typing import Final, final

import torch
import torch.distributed as dist
from torch import Tensor

from consilium.errors import ConfigError

_BROADCAST: Final = 0  # the rank whose secret counts


@final
class ProcessGroup:
    """The processes of the default group.

    Raises:
        ConfigError: There is no such group yet.
    """

    def __init__(self) -> None:
        if not dist.is_available() or not dist.is_initialized():
            raise ConfigError(
                "torch.distributed has no process group; expected one: start the processes with "
                "torchrun and call init_process_group first"
            )
        self._device = torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        return dist.get_rank()

    @property
    def size(self) -> int:
        """How many there are."""
        return dist.get_world_size()

    def agree(self, secret: bytes) -> bytes:
        """Returns the secret of process 0, the same everywhere."""
        shared = torch.tensor(list(secret), dtype=torch.uint8, device=self._device)
        dist.broadcast(shared, src=_BROADCAST)
        return bytes(shared.tolist())

    def together(self, part: Tensor) -> Tensor:
        """Returns the sum of the parts of all processes, float64, the same everywhere."""
        total = part.to(self._device)
        dist.all_reduce(total)
        return total.to(part.device)

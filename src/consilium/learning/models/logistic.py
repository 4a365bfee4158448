# SPDX-License-Identifier: Apache-2.0
"""Multinomial logistic regression on images or tables: one linear layer.

Convex, so where training starts does not matter: weights start at zero and the seed has no
part in it. The honest baseline under any network.
"""

import math
from typing import final

from torch import Tensor, nn


@final
class Logistic(nn.Module):
    """A linear map of the flattened input."""

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(math.prod(shape), classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns one logit a class, shape (n, classes), for inputs (n, *shape)."""
        logits: Tensor = self.linear(self.flatten(inputs))
        return logits

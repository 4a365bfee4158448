# SPDX-License-Identifier: Apache-2.0
"""A trained network as it leaves the house: grey levels in, logits and probabilities out.

Guarantees: what it computes before the network is `Preprocessing` bit for bit, in double
precision, and the network is the trained one with weight standardisation folded into plain
convolutions, equal up to float32 rounding. Not here: pictures of other sizes (`data.framing`).
"""

from typing import final

import torch
from torch import Tensor, nn

from consilium.learning.models.standardised_convolution import folded
from consilium.learning.preprocessing import WHITE, Preprocessing


@final
class Deployed(nn.Module):
    """Images (n, channels, height, width) uint8 to logits and probabilities, classes second."""

    def __init__(
        self, model: nn.Module, preprocessing: Preprocessing, *, temperature: float = 1.0
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"{temperature=} must be > 0")
        self.network = folded(model).eval()
        self.own_moments = preprocessing.standardise_each_image
        self.centre = preprocessing.mean * WHITE
        self.spread = preprocessing.std * WHITE
        self.temperature = temperature

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Returns logits divided by the temperature, and their softmax."""
        levels = image.to(torch.float64)
        if self.own_moments:
            inputs = _standardised(image.to(torch.int64), levels)
        else:
            inputs = (levels - self.centre) / self.spread
        logits: Tensor = self.network(inputs.to(torch.float32)) / self.temperature
        return logits, torch.softmax(logits, dim=1)


def _standardised(whole: Tensor, levels: Tensor) -> Tensor:
    """Returns each image by its own mean and spread; the sums are of integers, hence exact."""
    size = whole[0].numel()
    total = whole.sum(dim=(1, 2, 3), keepdim=True)
    squares = (whole * whole).sum(dim=(1, 2, 3), keepdim=True)
    variance = (size * squares - total * total).to(torch.float64) / float(size * size)
    spread = torch.clamp(torch.sqrt(variance), min=1.0)
    return (levels - total.to(torch.float64) / float(size)) / spread

# SPDX-License-Identifier: Apache-2.0
"""Views: copies of an image turned, shifted and zoomed a little, for the patient who owns it.

A private step averages the gradient over all views of all images of a patient and clips that
mean once, so that views cost time and no privacy. They are made once, before a model's fixed
front end. How an image is moved is drawn from a hash of its own pixels: a patient's views do
not depend on who else takes part, which neighbouring datasets need.

Not for looking at: validation and test images have one view, themselves.
Source: De et al. 2022, section 3.2 (arXiv:2204.13650v2); fixed views are ours.
"""

import hashlib
import math
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that readers of PyTorch know
from torch import Tensor

from consilium.errors import ConfigError

TURN: Final = math.radians(10)  # at most, either way, as are the next two
SHIFT: Final = 0.08  # of the image's height and width
ZOOM: Final = 0.12  # of its size
_TAG: Final = b"consilium view 1"
_AT_ONCE: Final = 1024  # images


def view(inputs: Tensor, number: int) -> Tensor:
    """Returns view `number` of each image, shape (n, channels, h, w); view 0 is the image.

    Guarantees: view k of an image is a function of k and of that image alone.

    Raises:
        ConfigError: Another view than 0 of records that are not images.
    """
    if number == 0:
        return inputs
    if inputs.ndim != 4:
        raise ConfigError(
            f"training.views is above 1 for records of shape {tuple(inputs.shape[1:])}; expected "
            "images (channels, height, width): remove it for tables and volumes"
        )
    return torch.cat([_moved(part, number) for part in torch.split(inputs, _AT_ONCE)])


def view_of_maps(inputs: Tensor, labels: Tensor, number: int) -> Tensor:
    """Returns the labels of view `number` of `inputs`: label maps (n, h, w) move along.

    A class number (n,) and a soft label (n, classes) stay what they are. A pixel takes the class
    of the nearest one.
    """
    if number == 0 or labels.ndim < 3:
        return labels
    parts = zip(torch.split(inputs, _AT_ONCE), torch.split(labels, _AT_ONCE), strict=True)
    return torch.cat([_moved_maps(images, maps, number) for images, maps in parts])


def _moved_maps(images: Tensor, maps: Tensor, number: int) -> Tensor:
    grid = _grid(images, number)
    moved = F.grid_sample(
        maps[:, None].float(), grid, mode="nearest", padding_mode="border", align_corners=False
    )
    return moved[:, 0].to(maps.dtype)


def _moved(images: Tensor, number: int) -> Tensor:
    grid = _grid(images, number)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _grid(images: Tensor, number: int) -> Tensor:
    turn, zoom, right, down = _coins(images, number).unbind(dim=1)
    cosine, sine = torch.cos(TURN * turn), torch.sin(TURN * turn)
    size = 1 + ZOOM * zoom
    # coordinates run from -1 to 1, so a share of the side is twice that
    rows = [
        torch.stack([size * cosine, -size * sine, 2 * SHIFT * right], dim=1),
        torch.stack([size * sine, size * cosine, 2 * SHIFT * down], dim=1),
    ]
    return F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)


def _coins(images: Tensor, number: int) -> Tensor:
    """Returns four numbers between -1 and 1 for each image, shape (n, 4), float32."""
    tag = _TAG + number.to_bytes(4, "big")
    drawn = b"".join(
        hashlib.shake_128(tag + image.tobytes()).digest(16) for image in images.numpy()
    )
    coins = np.frombuffer(drawn, "<u4").reshape(-1, 4) / 2.0**31 - 1
    return torch.from_numpy(coins.astype(np.float32))

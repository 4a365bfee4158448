# SPDX-License-Identifier: Apache-2.0
"""Convolutions in a ring, by one product of matrices; images are (n, height, width, channels)."""

import numpy as np

from consilium.inference import kernels
from consilium.inference.program import Convolve, WeightShape
from consilium.inference.ring import Words


def convolve(images: Words, weights: Words, step: Convolve, shape: WeightShape) -> Words:
    """Returns the convolution modulo the word's size, unreduced.

    Args:
        images: Shape (n, h, w, c), words of 32 or 64 bits.
        weights: Shape (height * width * inputs, outputs), the same words.
        step: Stride and padding.
        shape: Of the weights.
    """
    patches, height, width = _patches(images, step, shape)
    out = np.empty((len(patches), shape.outputs), images.dtype)
    kernels.matmul(patches, np.ascontiguousarray(weights), out)
    return out.reshape(len(images), height, width, shape.outputs)


def _patches(images: Words, step: Convolve, shape: WeightShape) -> tuple[Words, int, int]:
    """Returns one row a place, and how many places there are in a column and in a row."""
    count = len(images)
    if step.flat:
        return np.ascontiguousarray(images.reshape(count, -1)), 1, 1
    if step.padding:
        edge = (step.padding, step.padding)
        images = np.pad(images, ((0, 0), edge, edge, (0, 0)))
    views = np.lib.stride_tricks.sliding_window_view(images, (shape.height, shape.width), (1, 2))
    views = views[:, :: step.stride, :: step.stride].transpose(0, 1, 2, 4, 5, 3)
    height, width = views.shape[1:3]
    rows = np.ascontiguousarray(views).reshape(count * height * width, -1)
    return rows, height, width

# SPDX-License-Identifier: Apache-2.0
"""The steps that are linear and public: the same on shares as on the values themselves.

Values carry the images in front: (n, height, width, channels). Wide values are reduced after
every step, narrow ones by whoever adds them.
"""

from typing import TypeAlias

import numpy as np

from consilium.inference.program import Add, Concatenate, Pad, Slice, Sum
from consilium.inference.ring import Words, reduce

LinearStep: TypeAlias = Pad | Slice | Sum | Concatenate | Add


def apply(step: LinearStep, values: list[Words], bits: int) -> Words:
    """Returns what `step` makes of the values that it reads, modulo 2**bits."""
    first = values[0]
    match step:
        case Pad():
            edge = (step.before, step.after)
            return np.pad(first, ((0, 0), edge, edge, (0, 0)))
        case Slice():
            picked = slice(step.start, step.start + (step.count - 1) * step.stride + 1, step.stride)
            return first[:, picked] if step.axis == 0 else first[:, :, picked]
        case Sum():
            return _sum(step, first, bits)
        case Concatenate():
            return np.concatenate(values, axis=-1)
        case Add():
            kind = first.dtype.type
            total = (first << kind(step.left_shift)) + (values[1] << kind(step.right_shift))
            return reduce(total, bits)


def _sum(step: Sum, images: Words, bits: int) -> Words:
    """Returns sums over windows: along the rows, then along the columns."""
    down = np.stack([_total(images[:, k : k + step.height], 1) for k in step.rows], axis=1)
    across = [_total(down[:, :, k : k + step.width], 2) for k in step.columns]
    return reduce(np.stack(across, axis=2), bits)


def _total(images: Words, axis: int) -> Words:
    total: Words = images.sum(axis=axis, dtype=images.dtype)
    return total

# SPDX-License-Identifier: Apache-2.0
"""The one gate that is not linear: the sign of a shared value, and the value where it is positive.

A value s, |s| < 2**20, is shared in the narrow ring Z_2^21. Three openings:

1. mask    s + r, r uniform: both see c = s + r. The sign of s is top(c) ^ top(r) ^ [c' < r'],
           c' and r' the low 20 bits: exact, no bit is left out.
2. leaves  c' falls in four groups of five bits. For each the dealer has shared the table
           T[x] = [x < v] of the group v of r', by XOR. Read at the public group of c and at the
           one below, it gives shares of "less" and of "equal": seven bits, opened under a
           one-time cover.
3. choice  less = g1 ^ p1 g2 ^ p1 p2 g3 ^ p1 p2 p3 g4. The seven bits are public up to their
           covers, so this is linear in the dealer's shares of the covers' fifteen products. The
           choice bit [s >= 0] is opened under a one-time bit beta.

Then u = [s >= 0] is beta or 1 - beta, publicly known which, and u s = c u - u r is linear in the
dealer's shares of beta, beta r and (1 - beta) r. In the wide ring 2**21 [wrapped] u is added;
where s >= 0 it wrapped exactly if top(r) is 1 and top(c) is 0.

Guarantees (exact): for every s in [-2**20, 2**20) and all randomness the shares made sum to
max(s, 0). Each opened message is uniform whatever s is: c because r is, the leaves because their
cover is, the choice because beta is; all three are of the dealer, used here and nowhere else. An
operator's own arrays are uniform and independent of these (see `material.py`), hence what it
sees can be drawn without s. The tables are of r, not of s: a table and c together give a share
of a bit, which is uniform without the other operator's share.

When it fails: |s| >= 2**20 is compared wrongly (`ranges.py` refuses a program that could); masks
that are used twice show differences of values; two operators together see everything.

Source: Beaver 1991 for products under one-time masks; Ishai et al. 2013 (one-time truth tables,
doi 10.1007/978-3-642-36594-2_34); the composition is ours.
"""

from dataclasses import dataclass, field
from typing import Final, final

import numpy as np

from consilium.inference import kernels
from consilium.inference.material import Arrays
from consilium.inference.ring import NARROW_BITS, Words, reduce, word

_LOW: Final = np.uint32(2**NARROW_BITS - 1)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One operator's material of the comparisons of one step, all flat: n values."""

    first: bool  # of the two operators
    mask: Words = field(repr=False)
    cover: Words = field(repr=False)
    tables: Words = field(repr=False)
    products: Words = field(repr=False)
    choice: Words = field(repr=False)
    chosen: Words = field(repr=False)
    wraps: Words | None = field(default=None, repr=False)  # where the result is wide


def gate(arrays: Arrays, step: int, *, first: bool) -> Gate:
    """Returns the material of `step`."""
    names = ("mask", "cover", "tables", "products", "choice", "chosen")
    found = {name: arrays[step, name] for name in names}
    return Gate(first=first, wraps=arrays.get((step, "wraps")), **found)


def masks(arrays: Arrays, step: int) -> tuple[Words, Words]:
    """Returns one operator's masks and covers of `step`."""
    return arrays[step, "mask"], arrays[step, "cover"]


def mask(gate: Gate, values: Words) -> Words:
    """Returns this operator's share of the masked values."""
    return (values.reshape(-1) + gate.mask) & _LOW


def leaves(gate: Gate, opened: Words) -> Words:
    """Returns this operator's share of the covered leaves."""
    out = np.empty(len(opened), np.uint8)
    kernels.leaves(opened, gate.tables, gate.cover, gate.first, out)
    return out


def choice(gate: Gate, opened: Words, public: Words) -> Words:
    """Returns this operator's share of the covered choice bits, eight to a byte."""
    out = np.empty(len(opened), np.uint8)
    kernels.root(opened, public, gate.cover, gate.products, gate.first, out)
    return np.packbits(out)


def select(gate: Gate, opened: Words, packed: Words, bits: int) -> Words:
    """Returns this operator's share of max(s, 0), flat, in the ring of `bits`."""
    chosen = np.unpackbits(packed.astype(np.uint8), count=len(opened))
    out = np.empty(len(opened), word(bits))
    kernels.choose(opened, chosen, gate.choice, gate.chosen, gate.first, out)
    if gate.wraps is not None:
        wraps = gate.wraps.astype(out.dtype, copy=False)
        kernels.unwrap(opened, chosen, wraps, out)
    return reduce(out, bits)


def deal_gate(mine: Gate, other: tuple[Words, Words], beta: Words, bits: int) -> Gate:
    """Returns the second operator's material from the first's, `mine`, which is used up.

    Args:
        mine: What the first operator expands; its arrays are overwritten.
        other: The second operator's masks and covers.
        beta: One uniform bit a value, the dealer's own.
        bits: Of the ring of the result.
    """
    r = (mine.mask + other[0]) & _LOW
    kernels.deal_bits(r, mine.cover ^ other[1], beta, mine.tables, mine.products)
    kernels.deal_choice(r, beta, mine.choice, mine.chosen)
    wraps = mine.wraps
    if wraps is not None:
        kernels.deal_wraps(r, beta, wraps)
        wraps = reduce(wraps, bits - NARROW_BITS)
    return Gate(
        first=False,
        mask=other[0],
        cover=other[1],
        tables=mine.tables,
        products=mine.products,
        choice=reduce(mine.choice, bits),
        chosen=reduce(mine.chosen, bits),
        wraps=wraps,
    )

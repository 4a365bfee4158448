# SPDX-License-Identifier: Apache-2.0
"""The loops that numba compiles: a product of matrices modulo 2**L, and the comparison's parts.

L is the size of the word, 32 or 64; sums wrap, as the ring wants. Nothing here branches on a
secret: what is looked up and selected by is public, or the party's own constant. What each loop
means, and why it hides, is in `comparison.py`, which the tests hold it against.

Not for import where numba is absent: callers reach it through `comparison` and `convolution`.
"""

from typing import Final

import numba
import numpy as np

from consilium.inference.ring import Words

_compiled: Final = numba.njit(nogil=True, cache=True)
_U8: Final = np.uint8
_U16: Final = np.uint16
_U32: Final = np.uint32
_ONE: Final = np.uint32(1)
_GROUP: Final = np.uint32(31)


@_compiled
def matmul(left: Words, right: Words, out: Words) -> None:
    """Writes left (m, k) times right (k, n) into out (m, n), four rows at a time."""
    rows, inner = left.shape
    columns = right.shape[1]
    i = 0
    while i + 3 < rows:
        for j in range(columns):
            out[i, j] = 0
            out[i + 1, j] = 0
            out[i + 2, j] = 0
            out[i + 3, j] = 0
        for k in range(inner):
            a, b, c, d = left[i, k], left[i + 1, k], left[i + 2, k], left[i + 3, k]
            for j in range(columns):
                v = right[k, j]
                out[i, j] += a * v
                out[i + 1, j] += b * v
                out[i + 2, j] += c * v
                out[i + 3, j] += d * v
        i += 4
    while i < rows:
        for j in range(columns):
            out[i, j] = 0
        for k in range(inner):
            a = left[i, k]
            for j in range(columns):
                out[i, j] += a * right[k, j]
        i += 1


@_compiled
def leaves(opened: Words, tables: Words, cover: Words, first: bool, out: Words) -> None:
    """Writes a share of four "less" bits, three "equal" bits and their cover: 7 bits a value."""
    one = _ONE if first else _U32(0)
    for i in range(opened.shape[0]):
        c = opened[i]
        # Bit c of a table is [c < v]; shifted up by one it is [c <= v].
        t0 = tables[i, 0] >> ((c >> _U32(15)) & _GROUP)
        t1 = tables[i, 1] >> ((c >> _U32(10)) & _GROUP)
        t2 = tables[i, 2] >> ((c >> _U32(5)) & _GROUP)
        t3 = tables[i, 3] >> (c & _GROUP)
        g0, g1, g2, g3 = t0 & _ONE, t1 & _ONE, t2 & _ONE, t3 & _ONE
        n0 = _not_more(tables[i, 0], (c >> _U32(15)) & _GROUP, one)
        n1 = _not_more(tables[i, 1], (c >> _U32(10)) & _GROUP, one)
        n2 = _not_more(tables[i, 2], (c >> _U32(5)) & _GROUP, one)
        bits = g0 | (g1 << _ONE) | (g2 << _U32(2)) | (g3 << _U32(3))
        bits |= ((n0 ^ g0) << _U32(4)) | ((n1 ^ g1) << _U32(5)) | ((n2 ^ g2) << _U32(6))
        out[i] = _U8(bits) ^ cover[i]


@_compiled
def _not_more(table: np.uint32, at: np.uint32, one: np.uint32) -> np.uint32:
    """Returns this party's share of [at <= v], the share of [at - 1 < v]."""
    shifted = (np.uint64(table) << np.uint64(1)) | np.uint64(one)
    return _U32((shifted >> np.uint64(at)) & np.uint64(1))


@_compiled
def root(
    opened: Words, public: Words, cover: Words, products: Words, first: bool, out: Words
) -> None:
    """Writes a share of the covered choice bit.

    It is 1 ^ top(opened) ^ top(r) ^ borrow ^ beta, where
    borrow = g1 ^ p1 g2 ^ p1 p2 g3 ^ p1 p2 p3 g4 and each g, p is a public bit ^ its cover.
    """
    c0 = _ONE if first else _U32(0)
    for i in range(public.shape[0]):
        x, y, q = _U32(public[i]), _U32(cover[i]), _U32(products[i])
        g1, g2, g3, g4 = (
            x & _ONE,
            (x >> _U32(1)) & _ONE,
            (x >> _U32(2)) & _ONE,
            (x >> _U32(3)) & _ONE,
        )
        a1, a2, a3 = (x >> _U32(4)) & _ONE, (x >> _U32(5)) & _ONE, (x >> _U32(6)) & _ONE
        h1, h2, h3, h4 = (
            y & _ONE,
            (y >> _U32(1)) & _ONE,
            (y >> _U32(2)) & _ONE,
            (y >> _U32(3)) & _ONE,
        )
        e1, e2, e3 = (y >> _U32(4)) & _ONE, (y >> _U32(5)) & _ONE, (y >> _U32(6)) & _ONE
        q12, q13, q23, q123 = q, q >> _U32(1), q >> _U32(2), q >> _U32(3)
        a12, a13, a23 = a1 & a2, a1 & a3, a2 & a3
        a123 = a12 & a3
        p12 = (a12 & c0) ^ (a1 & e2) ^ (a2 & e1) ^ q12
        p123 = (a123 & c0) ^ (a12 & e3) ^ (a13 & e2) ^ (a23 & e1)
        p123 ^= (a1 & q23) ^ (a2 & q13) ^ (a3 & q12) ^ q123
        f = (g1 & c0) ^ h1
        f ^= (a1 & g2 & c0) ^ (g2 & e1) ^ (a1 & h2) ^ (q >> _U32(4))
        f ^= (g3 & p12) ^ (a12 & h3) ^ (a1 & (q >> _U32(6))) ^ (a2 & (q >> _U32(5)))
        f ^= q >> _U32(7)
        f ^= (g4 & p123) ^ (a123 & h4) ^ (a12 & (q >> _U32(10))) ^ (a13 & (q >> _U32(9)))
        f ^= (a23 & (q >> _U32(8))) ^ (a1 & (q >> _U32(13))) ^ (a2 & (q >> _U32(12)))
        f ^= (a3 & (q >> _U32(11))) ^ (q >> _U32(14))
        f ^= q >> _U32(15)
        if first:
            f ^= _ONE ^ (opened[i] >> _U32(20))
        out[i] = _U8(f & _ONE)


@_compiled
def choose(
    opened: Words, bits: Words, choice: Words, chosen: Words, first: bool, out: Words
) -> None:
    """Writes a share of [s >= 0] * s: opened * u - [u r], u the choice bit behind its cover."""
    kind = out.dtype.type
    one = kind(1) if first else kind(0)
    for i in range(out.shape[0]):
        e = bits[i]
        u = one - choice[i] if e else choice[i]
        out[i] = kind(opened[i]) * u - chosen[i, e]


@_compiled
def unwrap(opened: Words, bits: Words, wraps: Words, out: Words) -> None:
    """Adds 2**21 times the share of [u top(r)] wherever the opened value has a zero top bit."""
    kind = out.dtype.type
    for i in range(out.shape[0]):
        if not (opened[i] >> _U32(20)) & _ONE:
            out[i] += wraps[i, bits[i]] << kind(21)


# -- What the dealer does -------------------------------------------------------------


@_compiled
def deal_bits(r: Words, cover: Words, beta: Words, tables: Words, products: Words) -> None:
    """Turns the first operator's tables and products into the second's, in place."""
    for i in range(r.shape[0]):
        c = r[i]
        for g in range(4):
            v = (c >> _U32(15 - 5 * g)) & _GROUP
            tables[i, g] ^= (_ONE << v) - _ONE
        y = _U32(cover[i])
        h2, h3, h4 = (y >> _U32(1)) & _ONE, (y >> _U32(2)) & _ONE, (y >> _U32(3)) & _ONE
        e1, e2, e3 = (y >> _U32(4)) & _ONE, (y >> _U32(5)) & _ONE, (y >> _U32(6)) & _ONE
        q = (e1 & e2) | ((e1 & e3) << _U32(1)) | ((e2 & e3) << _U32(2))
        q |= ((e1 & e2 & e3) << _U32(3)) | ((e1 & h2) << _U32(4)) | ((e1 & h3) << _U32(5))
        q |= ((e2 & h3) << _U32(6)) | ((e1 & e2 & h3) << _U32(7)) | ((e1 & h4) << _U32(8))
        q |= ((e2 & h4) << _U32(9)) | ((e3 & h4) << _U32(10)) | ((e1 & e2 & h4) << _U32(11))
        q |= ((e1 & e3 & h4) << _U32(12)) | ((e2 & e3 & h4) << _U32(13))
        q |= ((e1 & e2 & e3 & h4) << _U32(14)) | ((((c >> _U32(20)) ^ beta[i]) & _ONE) << _U32(15))
        products[i] ^= _U16(q)


@_compiled
def deal_choice(r: Words, beta: Words, choice: Words, chosen: Words) -> None:
    """Turns the first operator's shares of beta and of its products with r into the second's."""
    kind = choice.dtype.type
    for i in range(r.shape[0]):
        b, value = kind(beta[i]), kind(r[i])
        choice[i] = b - choice[i]
        chosen[i, 0] = b * value - chosen[i, 0]
        chosen[i, 1] = (kind(1) - b) * value - chosen[i, 1]


@_compiled
def deal_wraps(r: Words, beta: Words, wraps: Words) -> None:
    """Turns the first operator's shares of the products of beta with top(r) into the second's."""
    kind = wraps.dtype.type
    for i in range(r.shape[0]):
        b, top = kind(beta[i]), kind((r[i] >> _U32(20)) & _ONE)
        wraps[i, 0] = b * top - wraps[i, 0]
        wraps[i, 1] = (kind(1) - b) * top - wraps[i, 1]

# SPDX-License-Identifier: Apache-2.0
"""A sum without masks, where a project turned the secure sum off or one party holds all data."""

from dataclasses import dataclass, field, replace
from typing import final

import numpy as np

from consilium.dp.noise import Ring
from consilium.errors import RemoteProtocolError
from consilium.federation.messages import PlainUpdate


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PlainSum:
    """One adder that sees each vector."""

    members: tuple[int, ...]
    total: Ring = field(repr=False)
    uploaded: frozenset[int] = frozenset()


def add_plainly(sum_: PlainSum, update: PlainUpdate, number: int) -> PlainSum:
    """Returns the sum with one more site's vector, in round `number`.

    Raises:
        RemoteProtocolError: A stranger, a repeat, another round, or another size.
    """
    if update.site not in sum_.members or update.site in sum_.uploaded or update.round != number:
        raise RemoteProtocolError(f"stray, repeated or late update in round {number}", update.site)
    if len(update.vector) != sum_.total.nbytes:
        raise RemoteProtocolError(
            f"update of {len(update.vector)} bytes; expected {sum_.total.nbytes}", update.site
        )
    vector: Ring = np.frombuffer(update.vector, sum_.total.dtype)
    total = np.add(sum_.total, vector, dtype=sum_.total.dtype)
    return replace(sum_, total=total, uploaded=sum_.uploaded | {update.site})

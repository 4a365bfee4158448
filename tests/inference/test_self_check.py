# SPDX-License-Identifier: Apache-2.0
"""A machine that computes shares wrongly is found before it serves."""

import os

import pytest

from consilium.errors import LocalProtocolError
from consilium.inference import comparison, self_check
from consilium.inference.ring import WIDE_BITS, Words


def fresh() -> bytes:
    return os.urandom(32)


@pytest.mark.parametrize("bits", WIDE_BITS)
def test_this_machine_computes_rightly(bits: int) -> None:
    self_check.check_machine(bits, fresh)


def test_a_machine_that_selects_wrongly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    right = comparison.select

    def wrong(gate: comparison.Gate, opened: Words, packed: Words, bits: int) -> Words:
        return right(gate, opened, packed, bits) + opened.dtype.type(gate.first) * (1 << 12)

    monkeypatch.setattr(comparison, "select", wrong)

    with pytest.raises(LocalProtocolError, match="do not serve from it"):
        self_check.check_machine(40, fresh)

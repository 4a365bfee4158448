# SPDX-License-Identifier: Apache-2.0
"""Tests of the training messages: one encoding each, finite weights, nothing private in print."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium import wire
from consilium.errors import RemoteProtocolError
from consilium.federation.messages import (
    FROM_COORDINATOR,
    FROM_SITE,
    FromCoordinator,
    FromSite,
    PlainUpdate,
    PrekeysWanted,
    Ready,
    RoundStart,
    model_digest,
    weights_from_bytes,
    weights_to_bytes,
)
from consilium.secagg.messages import Plan

START = RoundStart(Plan(3, (0, 1, 2), bytes(32)), b"secret!!", 0.5)


@pytest.mark.parametrize("message", [Ready(0), Ready(300), PlainUpdate(1, 70_000, b"abcd")])
def test_what_a_site_says_survives_the_wire(message: FromSite) -> None:
    assert wire.decode(wire.encode(message), FROM_SITE, limit=100) == message


@pytest.mark.parametrize("message", [PrekeysWanted(1), PrekeysWanted(70_000), START])
def test_what_the_coordinator_says_survives_the_wire(message: FromCoordinator) -> None:
    assert wire.decode(wire.encode(message), FROM_COORDINATOR, limit=100) == message


@pytest.mark.parametrize("message", [PrekeysWanted(1), START, Plan(3, (0, 1, 2), bytes(32))])
def test_a_site_cannot_say_what_the_coordinator_says(message: wire.Message) -> None:
    with pytest.raises(RemoteProtocolError, match="malformed"):
        wire.decode(wire.encode(message), FROM_SITE, limit=100)


def test_a_learning_rate_spelt_as_an_integer_is_not_canonical() -> None:
    other = wire.encode(RoundStart(START.plan, START.weights, 1))

    with pytest.raises(RemoteProtocolError, match="canonical"):
        wire.decode(other, FROM_COORDINATOR, limit=100)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=9))
def test_weights_survive_the_wire(values: list[float]) -> None:
    weights = np.array(values, np.float32)

    found = weights_from_bytes(weights_to_bytes(weights), len(values))

    assert found.tobytes() == weights.tobytes()
    assert found.flags.writeable


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(RemoteProtocolError, match="not finite"):
        weights_from_bytes(weights_to_bytes(np.array([0, value], np.float32)), 2)


@pytest.mark.parametrize("data", [b"", bytes(7), bytes(9), bytes(12)])
def test_weights_of_another_size_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="bytes; expected 8"):
        weights_from_bytes(data, 2)


def test_another_model_has_another_digest() -> None:
    assert model_digest(bytes(8)) != model_digest(bytes(4))


@pytest.mark.parametrize("message", [START, PlainUpdate(1, 2, b"secret!!")])
def test_no_bytes_print(message: wire.Message) -> None:
    assert "secret" not in repr(message)
    assert "<8 bytes" in repr(message)

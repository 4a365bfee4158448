# SPDX-License-Identifier: Apache-2.0
"""Tests of what may be searched, on whose data, and at what price."""

import pytest

from consilium.errors import ConfigError, PrivacyError
from consilium.federation.arms import ARMS
from consilium.federation.search_space import Choice, Range, Real, Whole, parse_space, what_it_costs

RATE = "learning_rate.initial"
PRIVATE = [name for name, arm in ARMS.items() if arm.private]
OTHERS = [name for name, arm in ARMS.items() if not arm.private]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (f"{RATE}=log:0.01..1", Real(key=RATE, low=0.01, high=1.0, log=True)),
        (f"{RATE}=log:1e-3..1e-1", Real(key=RATE, low=1e-3, high=0.1, log=True)),
        (f"{RATE}=-1.5..2", Real(key=RATE, low=-1.5, high=2.0, log=False)),
        ("training.views=int:1..8", Whole(key="training.views", low=1, high=8)),
        ("optimiser.name=sgd|adam", Choice(key="optimiser.name", values=("sgd", "adam"))),
        ("dp.l2_clip_norm=0.1..2", Real(key="dp.l2_clip_norm", low=0.1, high=2.0, log=False)),
    ],
)
def test_ranges_are_read(word: str, expected: Range) -> None:
    assert parse_space([word]) == (expected,)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "no --space was given"),
        (["rounds=1..2"], "expected section.key=RANGE"),
        ([RATE], "expected section.key=RANGE"),
        ([f"{RATE}=1"], r"expected low\.\.high"),
        ([f"{RATE}=a|"], r"expected low\.\.high"),
        ([f"{RATE}=a|a"], r"expected low\.\.high"),
        ([f"{RATE}=2..1"], "expected low < high"),
        ([f"{RATE}=log:0..1"], "above 0 with log"),
        ([f"{RATE}=0..1e999"], "expected low < high"),
        (["training.views=int:1..2.5"], "expected whole numbers"),
        ([f"{RATE}=0..1", f"{RATE}=0..2"], "expected each setting once"),
    ],
)
def test_what_is_no_space_is_refused(words: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_space(words)


@pytest.mark.parametrize(
    "key",
    ["dp.target_epsilon", "dp.delta", "dp.noise_multiplier", "sites.count", "data.source"],
)
def test_what_is_agreed_is_not_searched(key: str) -> None:
    with pytest.raises(ConfigError, match="agreed and not searched"):
        parse_space([f"{key}=1..2"])


@pytest.mark.parametrize("arm", PRIVATE)
def test_a_private_arm_is_not_searched_on_its_patients(arm: str) -> None:
    with pytest.raises(PrivacyError, match="the price of all trials together"):
        what_it_costs(arm, "cxr64", None)


@pytest.mark.parametrize("arm", ARMS)
def test_a_public_twin_costs_nobody_anything(arm: str) -> None:
    said = what_it_costs(arm, "cxr64", "digits")

    assert said.startswith("The search read digits and no record of cxr64")
    assert said.endswith("if digits is public.")


@pytest.mark.parametrize("arm", OTHERS)
def test_an_arm_without_a_promise_says_so(arm: str) -> None:
    assert "promises nothing and neither does its search" in what_it_costs(arm, "cxr64", None)


def test_an_unknown_arm_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown"):
        what_it_costs("private", "cxr64", None)

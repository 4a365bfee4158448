# SPDX-License-Identifier: Apache-2.0
"""What a search for settings may vary, and what it costs patients: nothing, or it is refused.

Every trial of a private arm would train on the patients and look at their validation records:
the price of a search on them is that of all its trials together, whatever was chosen. So a
private arm is searched on public data alone. Who takes part, whose data, and the guarantee are
agreed, not searched.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, final

from consilium.errors import ConfigError, PrivacyError
from consilium.federation.arms import ARMS

SEARCHED: Final = ("model", "optimiser", "learning_rate", "training")
SEARCHED_DP: Final = ("dp.l2_clip_norm", "dp.expected_batch")

_NUMBER: Final = r"[-+0-9.eE]+?"
_RANGE: Final = re.compile(rf"(?P<kind>log:|int:|)(?P<low>{_NUMBER})\.\.(?P<high>{_NUMBER})")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Real:
    """A number from `low` to `high`; `log` spreads trials evenly over its powers."""

    key: str
    low: float
    high: float
    log: bool


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A whole number from `low` to `high`."""

    key: str
    low: int
    high: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of some words or values, as TOML has them."""

    key: str
    values: tuple[str, ...]


Range: TypeAlias = Real | Whole | Choice


def parse_space(words: Sequence[str]) -> tuple[Range, ...]:
    """Returns the ranges of settings to search, each "section.key=RANGE".

    | RANGE | what |
    |---|---|
    | `0.1..0.9` | a number |
    | `log:0.01..1` | a number, evenly over its powers |
    | `int:1..8` | a whole number |
    | `sgd\\|adam` | one of these |

    Raises:
        ConfigError: None, not understood, twice the same, or of what is agreed and not searched.

    >>> parse_space(["learning_rate.initial=log:0.01..1"])[0].log
    True
    """
    if not words:
        raise ConfigError(
            "no --space was given; expected one, learning_rate.initial=log:0.01..1 say"
        )
    found = tuple(_parse(word) for word in words)
    keys = [one.key for one in found]
    if len(set(keys)) < len(keys):
        raise ConfigError(f"--space names {', '.join(keys)}; expected each setting once")
    return found


def _parse(word: str) -> Range:
    key, equals, text = word.partition("=")
    if not equals or key.count(".") != 1:
        raise ConfigError(
            f"--space {word!r}; expected section.key=RANGE, training.views=int:1..8 say"
        )
    if key.split(".")[0] not in SEARCHED and key not in SEARCHED_DP:
        raise ConfigError(
            f"--space names {key!r}, which is agreed and not searched; expected a setting of "
            f"{', '.join(SEARCHED)}, or {' or '.join(SEARCHED_DP)}"
        )
    match = _RANGE.fullmatch(text)
    if match is None:
        return _choice(key, text)
    try:
        low, high = float(match["low"]), float(match["high"])
    except ValueError:
        return _choice(key, text)
    if not low < high or not math.isfinite(high - low) or (match["kind"] == "log:" and low <= 0):
        raise ConfigError(f"--space {word!r}; expected low < high, and above 0 with log")
    if match["kind"] == "int:":
        if low != int(low) or high != int(high):
            raise ConfigError(f"--space {word!r}; expected whole numbers")
        return Whole(key=key, low=int(low), high=int(high))
    return Real(key=key, low=low, high=high, log=match["kind"] == "log:")


def _choice(key: str, text: str) -> Choice:
    values = tuple(text.split("|"))
    if len(values) < 2 or not all(values) or len(set(values)) < len(values):
        raise ConfigError(
            f"--space {key}={text}; expected low..high, log:low..high, int:low..high or a|b|c"
        )
    return Choice(key=key, values=values)


def what_it_costs(arm: str, source: str, public_twin: str | None) -> str:
    """Returns what a search of `arm` reveals of the patients of `source`, for people.

    Raises:
        ConfigError: There is no such arm.
        PrivacyError: It would cost them their budget many times over.
    """
    if arm not in ARMS:
        raise ConfigError(f"arm {arm!r} is unknown; expected one of {', '.join(ARMS)}")
    if public_twin is not None:
        return (
            f"The search read {public_twin} and no record of {source}: it spent nothing of "
            f"anybody's budget, if {public_twin} is public."
        )
    if ARMS[arm].private:
        raise PrivacyError(
            f"arm {arm} would be searched on {source}: each trial trains on its patients and looks "
            "at their validation records, so that the search costs the price of all trials "
            "together; expected --public-twin SOURCE, public or synthetic data of the same kind"
        )
    return (
        f"Arm {arm} promises nothing and neither does its search: every trial trained on {source} "
        "and looked at its validation records. In an arm with dp, settings chosen so would be a "
        "release that nobody charged: search that arm with --public-twin."
    )

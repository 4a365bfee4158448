# SPDX-License-Identifier: Apache-2.0
"""How numbers are written, everywhere in a report: one function for each kind.

Guarantees: epsilon, delta and an attacker's success are rounded up, never down. What is
undefined is said to be, and is never a number.
"""

import math
from decimal import ROUND_CEILING, Context, Decimal
from typing import Final

from consilium.learning.resampling import Interval
from consilium.web.summary import Spread

UNDEFINED: Final = "undefined"
_MINUS: Final = "\N{MINUS SIGN}"
_PLUS_MINUS: Final = "\N{PLUS-MINUS SIGN}"
_SPACE: Final = "\N{NO-BREAK SPACE}"
_WORDS: Final = (
    *("no", "one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
)
_UP: Final = Context(prec=3, rounding=ROUND_CEILING)

# -- Quality --------------------------------------------------------------------------


def share(value: float | None) -> str:
    """Returns a number of at most one as ".937", "1.000" or the word for undefined.

    >>> share(0.9374), share(1.0), share(None)
    ('.937', '1.000', 'undefined')
    """
    return UNDEFINED if value is None else _decimals(value, 3)


def spread(value: Spread | None) -> str:
    """Returns ".937", or ".937 ± .004" where there are several seeds."""
    if value is None or value.sd is None:
        return share(None if value is None else value.mean)
    return f"{share(value.mean)} {_PLUS_MINUS} {share(value.sd)}"


def pixels(value: float | Spread | None) -> str:
    """Returns a distance as "2.13", or "2.13 ± 0.20" where there are several seeds."""
    if value is None:
        return UNDEFINED
    if not isinstance(value, Spread):
        return f"{value:.2f}"
    return f"{value.mean:.2f}" + ("" if value.sd is None else f" {_PLUS_MINUS} {value.sd:.2f}")


def interval(value: Interval | None) -> str:
    """Returns ".916 to .955"."""
    return UNDEFINED if value is None else f"{share(value[0])} to {share(value[1])}"


def of_hundred(value: float | None) -> str:
    """Returns a share as "99 of 100"; only what is all or nothing is called so.

    >>> of_hundred(0.9987), of_hundred(1.0), of_hundred(0.0001)
    ('99 of 100', '100 of 100', '1 of 100')
    """
    if value is None:
        return UNDEFINED
    whole = value in (0, 1)
    return f"{round(value * 100) if whole else min(99, max(1, round(value * 100)))} of 100"


def _decimals(value: float, places: int) -> str:
    text = f"{abs(value):.{places}f}".removeprefix("0")
    return _MINUS + text if value < 0 and float(text) else text


# -- Privacy --------------------------------------------------------------------------


def epsilon(value: float | None) -> str:
    """Returns epsilon with two decimals, four below 0.1, rounded up.

    >>> epsilon(2.3977), epsilon(2.59), epsilon(0.00123)
    ('2.40', '2.59', '0.0013')
    """
    if value is None:
        return "no guarantee"
    if not math.isfinite(value):
        return "unbounded"
    unit = Decimal("0.01") if value == 0 or value >= 0.1 else Decimal("0.0001")
    return str(Decimal(repr(value)).quantize(unit, rounding=ROUND_CEILING))


def delta(value: float | None) -> str:
    """Returns delta without an exponent, three digits, rounded up.

    >>> delta(1e-5), delta(1 / 60000)
    ('0.00001', '0.0000167')
    """
    if value is None:
        return "no guarantee"
    return format(_UP.create_decimal(Decimal(repr(value))).normalize(), "f")


def right_guesses(membership_advantage: float) -> str:
    """Returns how often the best attacker is right where a coin is right half the time.

    Args:
        membership_advantage: 0 (a coin) to 1 (always right).

    >>> right_guesses(0.8604).split()
    ['93.1', '%']
    """
    percent = (1 + Decimal(repr(membership_advantage))) * 50
    return f"{percent.quantize(Decimal('0.1'), rounding=ROUND_CEILING)}{_SPACE}%"


def slack(value: float) -> str:
    """Returns the price of rounding, which is far below what epsilon shows."""
    return f"{value:.1e}" if value >= 1e-9 else "below 0.000000001"


# -- Counts, bytes, time --------------------------------------------------------------


def count(value: int) -> str:
    """Returns "2,588"."""
    return f"{value:,}"


def plural(value: int, noun: str) -> str:
    """Returns "1 site", "2,588 patients"."""
    return f"{count(value)} {noun}" if value == 1 else f"{count(value)} {noun}s"


def words(value: int, noun: str) -> str:
    """Returns "ten sites", "one site", "13 sites"."""
    number = _WORDS[value] if value < len(_WORDS) else count(value)
    return f"{number} {noun}" if value == 1 else f"{number} {noun}s"


def byte_count(value: int) -> str:
    """Returns "812 bytes", "7.2 kB", "9.6 MB"; a kB is 1,000 bytes."""
    if value < 1000:
        return plural(value, "byte")
    unit, size = next(
        (unit, value / size)
        for unit, size in (("kB", 10**3), ("MB", 10**6), ("GB", 10**9))
        if round(value / size, 1) < 1000 or unit == "GB"
    )
    return f"{size:,.1f}{_SPACE}{unit}"


def difference(measured: int, predicted: int | None) -> str:
    """Returns "equal", or by how many bytes the measured number is off."""
    if predicted is None:
        return "not predicted: a site dropped"
    if measured == predicted:
        return "equal"
    sign = "+" if measured > predicted else _MINUS
    return f"{sign}{plural(abs(measured - predicted), 'byte')}"


def duration(seconds: float) -> str:
    """Returns "10.5 s", "3 min 20 s" or "1 h 05 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f}{_SPACE}s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def rounds(value: Spread) -> str:
    """Returns "60", or "57.4 ± 2.1" where seeds stopped at different rounds."""
    if not value.sd:
        return count(round(value.mean))
    return f"{value.mean:,.1f} {_PLUS_MINUS} {value.sd:,.1f}"

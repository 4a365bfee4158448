# SPDX-License-Identifier: Apache-2.0
"""What a check of the doctor found, and how a check that cannot be made becomes a finding."""

from collections.abc import Callable
from typing import TypeAlias, final

import msgspec


@final
class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One check.

    Attributes:
        check: What was looked at.
        well: Whether it lets the site take part.
        found: What was found.
        mend: What to do; where it is well, what to do soon, or empty.
    """

    check: str
    well: bool
    found: str
    mend: str = ""


@final
class Trouble(Exception):
    """What a check found, and how to mend it; never leaves the doctor."""

    def __init__(self, found: str, mend: str) -> None:
        super().__init__(found)
        self.found, self.mend = found, mend


Check: TypeAlias = Callable[[], Finding]


def examined(name: str, mend: str, check: Check) -> Finding:
    """Returns what `check` finds; where it fails, that, and how to mend it.

    Args:
        name: Of the check.
        mend: What to do where the system refuses and the check does not say more.
        check: Raises `Trouble` for what it can name.
    """
    try:
        return check()
    except Trouble as trouble:
        return Finding(check=name, well=False, found=trouble.found, mend=trouble.mend)
    except OSError as error:
        return Finding(check=name, well=False, found=error.strerror or str(error), mend=mend)

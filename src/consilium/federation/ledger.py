# SPDX-License-Identifier: Apache-2.0
"""The price of a release, written down before the release: charge, receipt, and their port.

Whatever sends a value out of a site takes the `Receipt` of its charge as an argument. The
charge is durable before the receipt exists, so a crash costs budget and never privacy.
"""

from dataclasses import dataclass
from typing import Protocol, final

from consilium.errors import BudgetExceeded
from consilium.wire import digest


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """One step's price at one site.

    Attributes:
        site: Who pays.
        round: The attempt it pays for; a retry is a new attempt with its own charge.
        terms: Digest of the project, 32 bytes.
        mechanism: What is done, in words, for the audit log.
    """

    site: int
    round: int
    terms: bytes
    mechanism: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Proof that a charge is durable.

    Attributes:
        charge: Digest of the charge that was paid, 32 bytes.
        sequence: Its place in the site's ledger, from 1.
    """

    charge: bytes
    sequence: int


class Ledger(Protocol):
    """Append-only record of charges at one site."""

    def append(self, charge: Charge) -> Receipt:
        """Returns the receipt of `charge` once it is durable.

        Raises:
            BudgetExceeded: It would be one step too many; nothing was written.
        """
        ...

    def last_round(self, terms: bytes) -> int:
        """Returns the highest round ever charged under these terms, 0 where there is none.

        A site answers no round up to it again, whatever became of the site in between.
        """
        ...

    def count(self) -> int:
        """Returns how many charges were ever made."""
        ...


def charge_digest(charge: Charge) -> bytes:
    """Returns the 32 bytes that stand for `charge` in its receipt."""
    return digest("charge", charge.site, charge.round, charge.terms, charge.mechanism)


def check_room(*, made: int, allowed: int) -> None:
    """Refuses one more charge when `allowed` have been made.

    Raises:
        BudgetExceeded: There is no room.
    """
    if made >= allowed:
        raise BudgetExceeded(
            f"the budget pays for {allowed} steps and {made} were charged; expected room for one "
            "more: raise the budget, or take the model of the last paid step"
        )

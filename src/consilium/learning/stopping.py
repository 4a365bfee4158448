# SPDX-License-Identifier: Apache-2.0
"""Early stopping on a validation score, as an immutable value.

It knows scores and rounds, nothing of budgets: under differential privacy a score of private
records is a release, charged by whoever computes it, and the budget stops a run elsewhere.
"""

import math
from dataclasses import dataclass, replace
from typing import final

from consilium.errors import ConfigError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyStopping:
    """Stops once `patience` rounds in a row have not beaten the best score, higher being better.

    Attributes:
        patience: Rounds without a better score after which to stop, 1 or more.
        least_gain: A score counts as better when it exceeds the best by more than this.
        best_round: The round with the best score; 0 before the first.
        best_score: Its score.
        last_round: The last round observed.

    >>> stopping = EarlyStopping(patience=2).observe(1, 0.8).observe(2, 0.7).observe(3, 0.8)
    >>> stopping.best_round, stopping.should_stop
    (1, True)
    """

    patience: int
    least_gain: float = 0.0
    best_round: int = 0
    best_score: float = -math.inf
    last_round: int = 0

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ConfigError(f"patience={self.patience}, expected 1 or more; count in rounds")
        if not self.least_gain >= 0:
            raise ConfigError(f"least_gain={self.least_gain}, expected 0 or more")

    @property
    def should_stop(self) -> bool:
        """Whether the last `patience` rounds brought no better score."""
        return self.last_round - self.best_round >= self.patience

    def observe(self, round_: int, score: float) -> "EarlyStopping":
        """Returns the state after `round_`; NaN is not better than anything.

        Raises:
            ValueError: `round_` does not come after the last one.
        """
        if round_ <= self.last_round:
            raise ValueError(f"{round_=}, expected one after {self.last_round}; observe in order")
        if score > self.best_score + self.least_gain:
            return replace(self, best_round=round_, best_score=score, last_round=round_)
        return replace(self, last_round=round_)

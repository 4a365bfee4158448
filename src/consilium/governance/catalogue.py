# SPDX-License-Identifier: Apache-2.0
"""What others may read of a dataset: a card without rows, and the search over cards.

Guarantees: a card holds counts that are noised or declared, names of features and classes, and
words; no row, no path, no patient. Not here: the budget (`ledger`), who may see it (`access`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, final

_BUCKETS: Final = (100, 1_000, 10_000, 100_000)


class DatasetState(StrEnum):
    """Whether a dataset can be used."""

    REGISTERED = "registered"
    FROZEN = "frozen"  # nothing new is charged until two people say so
    WITHDRAWN = "withdrawn"  # for good; its ledger is kept


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The card of a dataset.

    Attributes:
        id: ULID.
        name: Unique in its office.
        office: That holds it.
        description: What it is, for people.
        tags: Words to find it by.
        task: "classification" or "segmentation".
        unit: Whose loss is bounded, "patient" or "record".
        classes: Names, in the order of the labels.
        features: Names of columns, for tables.
        shape: Of one record.
        noisy_patients: Training patients with noise; never below 0.
        count_epsilon: What that count cost.
        fingerprint: SHA-256 of its description, in hexadecimal; what projects are bound to.
        state: Whether it can be used.
        registered: UTC.
        version: Grows with every change of the card.
    """

    id: str
    name: str
    office: str
    description: str
    tags: tuple[str, ...]
    task: str
    unit: str
    classes: tuple[str, ...]
    features: tuple[str, ...]
    shape: tuple[int, ...]
    noisy_patients: int
    count_epsilon: float
    fingerprint: str
    state: DatasetState
    registered: datetime
    version: int = 1

    def size(self) -> str:
        """Returns how large it is, in words that more noise would not change."""
        for limit in _BUCKETS:
            if self.noisy_patients < limit:
                return f"fewer than {limit:,} patients"
        return f"{_BUCKETS[-1]:,} patients or more"


def matches(dataset: Dataset, words: str = "", tags: Iterable[str] = ()) -> bool:
    """Returns whether every word is somewhere in the card and every tag is one of its tags."""
    own = {tag.casefold() for tag in dataset.tags}
    if not {tag.casefold() for tag in tags} <= own:
        return False
    parts = (dataset.name, dataset.description, dataset.task, *own, *dataset.classes)
    text = " ".join((*parts, *dataset.features)).casefold()
    return all(word in text for word in words.casefold().split())

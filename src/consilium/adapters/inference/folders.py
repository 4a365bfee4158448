# SPDX-License-Identifier: Apache-2.0
"""Many pictures asked in batches: a clinic's folder against another's model.

A file that is no picture, or of another kind than the model knows, costs its own answer only, and
nothing of it is sent. Where an operator stops in the middle, the answers so far are kept and every
other file is named. Batches are as large as the material that both operators have; where there is
none, the dealer is waited for.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

from consilium.adapters.inference.asking import Found, Offered, Patient
from consilium.adapters.inference.pictures import Unanswered, sort_pictures
from consilium.errors import ConsiliumError, DataError
from consilium.learning.preprocessing import Preprocessing

BATCH: Final = 16  # images a session
DEALER: Final = 30.0  # seconds that the dealer is waited for
_LOOK: Final = 0.5


@final
@dataclass(frozen=True, slots=True)
class Asked:
    """Answers by batch, and the files that have none."""

    batches: list[tuple[list[Path], Found]] = field(default_factory=list)
    unanswered: list[Unanswered] = field(default_factory=list)


def ask_all(patient: Patient, offered: Offered, files: Sequence[Path]) -> Asked:
    """Returns what there is to say of each file; a session that fails ends the asking."""
    card, asked, at = offered.card, Asked(), 0
    rule = Preprocessing(
        mean=card.mean, std=card.std, standardise_each_image=card.standardise_each_image
    )
    while at < len(files):
        part = files[at : at + BATCH]
        good: list[Path] = []
        try:
            part = part[: _room(patient, offered)]
            good, images, bad = sort_pictures(part, card.about.input, rule, card.about.kind)
            asked.unanswered.extend(bad)
            if good:
                asked.batches.append((good, patient.ask(offered, images)))
        except ConsiliumError as error:
            left = [*(good or part), *files[at + len(part) :]]
            asked.unanswered.extend(Unanswered(one, str(error)) for one in left)
            return asked
        at += len(part)
    return asked


def _room(patient: Patient, offered: Offered) -> int:
    """Returns for how many images both operators have material, one or more."""
    end = time.monotonic() + DEALER
    while True:
        left = patient.images_left(offered.publication)
        if left > 0:
            return left
        if time.monotonic() > end:
            raise DataError(
                f"no material is left, and none came in {DEALER:.0f} s; ask again when the dealer "
                "has been by"
            )
        time.sleep(_LOOK)

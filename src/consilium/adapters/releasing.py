# SPDX-License-Identifier: Apache-2.0
"""Under which permit something is made of a trained model, and who signs what is made.

    model of an office    the office's permit beside the weights decides, and nothing else
    one's own model       whoever has it says what is allowed, and signs that

Guarantees: without a yes nothing is made; a model without a privacy guarantee gets no permit that
lets it go. Not here: the rule itself (`governance.model_permissions`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import final

from consilium.adapters.finished_models import FinishedModel, Papers
from consilium.adapters.model_card import check_permit, worst_epsilon
from consilium.errors import AccessDenied, ConfigError
from consilium.governance.model_permissions import Use, permissions_of
from consilium.governance.model_permits import (
    PERMIT,
    UNCOUNTED,
    Permit,
    Signer,
    require,
    sign_permit,
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A permit, and who signs what is made under it."""

    permit: Permit
    signer: Signer = field(repr=False)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a command is about to make.

    Attributes:
        uses: That it could serve; one of them must be allowed.
        words: What its owner allows, if it is one's own model; () takes `narrowest`.
        narrowest: The least that the command needs.
    """

    uses: tuple[Use, ...]
    words: tuple[str, ...]
    narrowest: str


def release_of(
    finished: FinishedModel, papers: Papers, wanted: Wanted, signer: Signer, now: datetime
) -> Release:
    """Returns the permit that decides, if it allows what is wanted.

    Raises:
        AccessDenied: It does not, or the model is an office's and its permit is not here.
        ConfigError: Words where a permit decides, or that are none.
    """
    permit = papers.permit
    if permit is None and papers.office is not None:
        raise AccessDenied(
            f"model {finished.project.name!r} belongs to office {papers.office.name!r} "
            f"({papers.office.words()}), and no {PERMIT} lies beside it; expected the office's "
            "permit: ask there for `consilium model release`"
        )
    if permit is not None and wanted.words:
        raise ConfigError(
            f"--permission {' '.join(wanted.words)}, and {PERMIT} of {permit.publisher.name!r} "
            "decides already; expected one of them: leave --permission out"
        )
    if permit is None:
        permit = _own(finished, papers, wanted.words or (wanted.narrowest,), signer, now)
    check_permit(permit, finished.result.statement)
    require(permit, *wanted.uses)
    return Release(permit=permit, signer=signer)


def _own(
    finished: FinishedModel, papers: Papers, words: Sequence[str], signer: Signer, now: datetime
) -> Permit:
    statement = finished.result.statement
    permit = Permit(
        model=finished.project.name,
        version=UNCOUNTED,
        weights=papers.weights,
        epsilon=worst_epsilon(statement),
        delta=statement.delta,
        permissions=permissions_of(words),
        issued=now,
        publisher=signer.publisher,
    )
    return sign_permit(permit, signer)

# SPDX-License-Identifier: Apache-2.0
"""From a researcher's draft to a contract, and back to the project that a run plays.

The number of patients in the contract's plan is a constant made of the noised counts on the
datasets' cards, so a contract holds no exact count. Guarantees: `check_terms` refuses a contract
whose guarantee, arm and project do not belong together, whoever signed it: a word "private" over
an arm without noise is found here.
"""

import platform
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from importlib.metadata import version
from typing import Final

import msgspec

from consilium import __version__
from consilium.adapters.office.values import ProjectDraft
from consilium.adapters.store.site_ledger import step_of
from consilium.dp.plan import View
from consilium.errors import ConfigError, DataError
from consilium.federation.arms import ARMS
from consilium.federation.project import Project, parse_project
from consilium.federation.setup import PublicFacts, Setup, make_setup
from consilium.federation.statement import NEIGHBOURS, round_up
from consilium.governance.catalogue import Dataset
from consilium.governance.composition import Step
from consilium.governance.contract import (
    BoundDataset,
    Contract,
    Guarantee,
    Party,
    difference,
)
from consilium.learning.models.registry import build
from consilium.learning.parameters import dimension
from consilium.learning.transfer import train_only

_PACKAGES: Final = ("torch", "numpy", "dp-accounting", "cryptography")


def make_contract(
    draft: ProjectDraft, cards: Mapping[str, Dataset], people: tuple[Party, ...], now: datetime
) -> Contract:
    """Returns the contract that `draft` is.

    Args:
        draft: As the researcher wrote it.
        cards: Of the datasets that it names, by site.
        people: The author first.
        now: UTC.

    Raises:
        ConfigError: The project file, its arm and the datasets do not fit together.
        PrivacyError: The guarantee cannot be given.
    """
    project = _with_patients(parse_project(draft.toml), draft.arm, cards)
    if len(cards) != project.sites.count:
        raise ConfigError(
            f"{len(cards)} datasets for sites.count = {project.sites.count}; expected one of each "
            "site that takes part: change [sites] count or the datasets"
        )
    return Contract(
        name=project.name,
        arm=draft.arm,
        project=msgspec.to_builtins(project),
        guarantee=guarantee(project, draft.arm, cards),
        datasets={
            site: BoundDataset(dataset=card.name, fingerprint=card.fingerprint)
            for site, card in cards.items()
        },
        software=dict(software()),
        people=people,
        purpose=draft.purpose,
        expires=_whole_seconds(now + timedelta(days=draft.days)),
        max_runs=draft.max_runs,
    )


def project_of(contract: Contract) -> Project:
    """Returns the project that a run under `contract` plays.

    Raises:
        DataError: What the contract holds is no project of that arm.
    """
    try:
        project = msgspec.convert(contract.project, Project, strict=True)
        seen = project.for_arm(contract.arm)
    except (msgspec.ValidationError, ConfigError) as error:
        raise DataError(f"contract {contract.name!r} holds no project: {error}") from None
    if project.arms or seen != project:
        raise DataError(
            f"contract {contract.name!r} changes its own settings for arm {contract.arm}; expected "
            "them as the arm sees them: export it again"
        )
    return project


def agreement(contract: Contract) -> bytes:
    """Returns the 32 bytes by which a run names what it plays: `Project.terms` of the arm."""
    return project_of(contract).terms(contract.arm)


def check_terms(contract: Contract, card: Dataset | None) -> None:
    """Refuses a contract that says of itself what its project does not do.

    Args:
        contract: As it came.
        card: Of this office's dataset, where it takes part; prices are computed from it.

    Raises:
        DataError: Guarantee, arm, project and sites do not belong together.
    """
    project = project_of(contract)
    private = ARMS[contract.arm].private
    if private != (contract.guarantee is not None):
        word = "no guarantee" if contract.guarantee is None else "a guarantee"
        raise DataError(
            f"contract {contract.name!r} states {word} for arm {contract.arm}, which "
            f"{'has one' if private else 'has none'}; do not approve it"
        )
    if project.sites.count != len(contract.datasets) or project.name != contract.name:
        raise DataError(f"contract {contract.name!r} is for other sites than its project")
    if card is not None and contract.guarantee is not None:
        cards = dict.fromkeys(contract.datasets, card)
        expected = guarantee(project, contract.arm, cards)
        if expected != contract.guarantee:
            ours = msgspec.structs.replace(contract, guarantee=expected)
            raise DataError(
                f"contract {contract.name!r} states another guarantee than this office computes; "
                f"expected the same:\n{difference(contract, ours)}"
            )


def guarantee(project: Project, arm: str, cards: Mapping[str, Dataset]) -> Guarantee | None:
    """Returns what one run of `project` promises at most; None: nothing."""
    setup = plan_setup(project, arm, cards)
    if setup.plan is None:
        return None
    plan, steps = setup.plan, setup.steps_allowed or setup.plan.steps
    return Guarantee(
        unit=project.data.privacy_unit,
        neighbouring_relation=NEIGHBOURS,
        epsilon=round_up(plan.epsilon(steps, View.OUTSIDER)),
        epsilon_participant=round_up(plan.epsilon(steps, View.PARTICIPANT)),
        delta=plan.delta,
        accountant=plan.accountant,
        steps=steps,
    )


def plan_setup(project: Project, arm: str, cards: Mapping[str, Dataset]) -> Setup:
    """Returns what the parties would agree on, with identities left open."""
    facts = PublicFacts(
        patients=_patients(cards), records=_patients(cards), dimension=_dimension(project, cards)
    )
    identities = [bytes([k]) * 32 for k in range(project.sites.count)]
    return make_setup(project, arm, facts, identities, seed=0)


def run_step(contract: Contract, card: Dataset) -> Step | None:
    """Returns what one step of a run costs, for this office's ledger; None: no promise."""
    cards = dict.fromkeys(contract.datasets, card)
    plan = plan_setup(project_of(contract), contract.arm, cards).plan
    return None if plan is None else step_of(plan)


@cache
def software() -> Mapping[str, str]:
    """Returns the versions that results depend on."""
    found = {name: version(name) for name in _PACKAGES}
    return {"consilium": __version__, "python": platform.python_version(), **found}


def _with_patients(project: Project, arm: str, cards: Mapping[str, Dataset]) -> Project:
    """Returns the project as the arm sees it, its plan's number of patients a constant."""
    seen = project.for_arm(arm)
    if seen.dp is None or seen.dp.patients is not None or not ARMS[arm].private:
        return seen
    dp = msgspec.structs.replace(seen.dp, patients=_patients(cards))
    return msgspec.structs.replace(seen, dp=dp)


def _patients(cards: Mapping[str, Dataset]) -> int:
    return max(1, sum(card.noisy_patients for card in cards.values()))


def _dimension(project: Project, cards: Mapping[str, Dataset]) -> int:
    card = next(iter(cards.values()))
    shape, size = card.shape, project.data.image_size
    if size is not None and len(shape) == 3:
        shape = (shape[0], size, size)
    model = build(
        project.model.name,
        shape=shape,
        classes=len(project.data.classes or card.classes),
        seed=0,
        label_maps=card.task == "segmentation",
    )
    train_only(model, project.model.train)
    return dimension(model)


def _whole_seconds(time: datetime) -> datetime:
    return time.replace(microsecond=0)

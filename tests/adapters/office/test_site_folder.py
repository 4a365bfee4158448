# SPDX-License-Identifier: Apache-2.0
"""A site of a federation whose office decides: one home for consents, asked at every charge."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from tests.adapters.office.conftest import Federation
from tests.adapters.office.test_projects import approved_everywhere

from consilium.adapters.office.terms import project_of, run_step
from consilium.adapters.site_folder import SiteFolder, SiteSettings
from consilium.adapters.store.ledger_store import LedgerStore
from consilium.adapters.store.site_ledger import Purchase, SiteAccount
from consilium.errors import AccessDenied, ConfigError
from consilium.federation.enrolment import Call
from consilium.federation.ledger import Charge


@pytest.fixture
def kit(federation: Federation, tmp_path: Path) -> SiteFolder:
    """The start-up kit of tum, which was joined with its office."""
    (tmp_path / "kit").mkdir()
    folder = SiteFolder(tmp_path / "kit")
    folder.path.mkdir()
    site = federation.sites["tum"]
    card = site.office.datasets.named(federation.steward("tum"), "tum", "hearts")
    data = Path(site.office.datasets.folder(federation.steward("tum"), card.id)).parent
    folder.settle(
        SiteSettings(name="tum", sites=("tum",), data_folder=str(data), office=str(site.folder))
    )
    return folder


@pytest.fixture
def call(federation: Federation) -> Call:
    project = approved_everywhere(federation)
    contract = (
        federation.sites["tum"].office.projects.get(federation.steward("tum"), project).contract
    )
    return Call(project=project_of(contract), arm=contract.arm, seed=0, run="heart-1")


def test_what_every_office_approved_runs(kit: SiteFolder, call: Call) -> None:
    permit = kit.check_approved(call)

    assert permit is not None
    assert permit.dataset == "hearts"


@pytest.mark.parametrize("arm", ["federated", "federated-local-dp"])
def test_an_approved_project_with_another_arm_does_not_run(
    kit: SiteFolder, call: Call, arm: str
) -> None:
    with pytest.raises(AccessDenied, match="are of no project"):
        kit.check_approved(replace(call, arm=arm))


def test_records_of_another_folder_are_not_read(
    kit: SiteFolder, call: Call, tmp_path: Path
) -> None:
    kit.settle(msgspec.structs.replace(kit.settings(), data_folder=str(tmp_path)))

    with pytest.raises(AccessDenied, match="lies in another folder"):
        kit.check_approved(call)


def test_a_second_home_for_consents_is_refused(kit: SiteFolder, call: Call) -> None:
    with pytest.raises(ConfigError, match="office decides"):
        kit.approve(call.project)


def test_a_revoked_project_pays_for_no_further_step(
    federation: Federation, kit: SiteFolder, call: Call
) -> None:
    permit = kit.check_approved(call)
    assert permit is not None
    account = SiteAccount(
        LedgerStore(permit.database), dataset=permit.dataset, run=call.run, permit=permit
    )
    ledger = account.open(_purchase(federation, permit.project))
    ledger.append(Charge(site=0, round=1, terms=bytes(32), mechanism="a step"))

    federation.sites["tum"].office.projects.revoke(
        federation.steward("tum"), permit.project, "consent was withdrawn"
    )

    with pytest.raises(AccessDenied, match="consent was withdrawn"):
        ledger.append(Charge(site=0, round=2, terms=bytes(32), mechanism="a step"))


def _purchase(federation: Federation, project: str) -> Purchase:
    site = federation.sites["tum"]
    steward = federation.steward("tum")
    contract = site.office.projects.get(steward, project).contract
    step = run_step(contract, site.office.datasets.named(steward, "tum", "hearts"))
    assert step is not None
    return Purchase(project=project, terms=bytes(32), step=step, steps=5)

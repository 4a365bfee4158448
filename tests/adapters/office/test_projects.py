# SPDX-License-Identifier: Apache-2.0
"""Projects through four offices: from a draft to a run, and every way to be refused."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from tests.adapters.office.conftest import SITES, Federation
from tests.adapters.office.made import make_folder, new_dataset, project_draft

from consilium.adapters.office.deliveries import read_delivery
from consilium.adapters.office.permits import begin_run
from consilium.adapters.office.terms import agreement
from consilium.adapters.office.values import ProjectDraft, ProjectView, Said
from consilium.errors import AccessDenied, ConfigError, Conflict, DataError
from consilium.governance.access import Actor, ActorKind
from consilium.governance.contract import Conditions, Verdict, contract_bytes
from consilium.governance.projects import State


def approve(federation: Federation, site: str, project: str, **conditions: object) -> ProjectView:
    office, steward = federation.sites[site].office, federation.steward(site)
    digest = office.projects.get(steward, project).digest
    asked = Conditions(**conditions)  # type: ignore[arg-type]  # its own keywords
    said = Said(verdict=Verdict.APPROVE, digest=digest, conditions=asked)
    return office.projects.review(steward, project, said)


def approved_everywhere(federation: Federation) -> str:
    project = federation.submitted()
    for site in SITES:
        approve(federation, site, project)
    federation.carry()
    return project


def alone() -> ProjectDraft:
    """A project of one site, which sums nothing securely."""
    return project_draft({"tum": "hearts"}, arm="federated-local-dp", secure=False)


def state(federation: Federation, site: str, project: str) -> State:
    here = federation.centre if site == "centre" else federation.sites[site]
    return here.office.projects.get(here.owner, project).state


def test_a_project_is_ready_once_every_site_said_yes(federation: Federation) -> None:
    project = federation.submitted()
    assert state(federation, "lmu", project) is State.SUBMITTED

    for site in SITES[:2]:
        approve(federation, site, project)
    federation.carry()
    assert state(federation, "centre", project) is State.APPROVED

    approve(federation, SITES[2], project)
    federation.carry()
    assert {state(federation, site, project) for site in ("centre", *SITES)} == {State.READY}


def test_every_office_holds_the_same_terms(federation: Federation) -> None:
    project = federation.submitted()

    words = {
        site.office.projects.get(site.owner, project).words
        for site in (federation.centre, *federation.sites.values())
    }

    assert len(words) == 1


def test_the_contract_holds_no_exact_count(federation: Federation) -> None:
    cards = federation.centre.office.datasets.search(federation.researcher)

    contract = federation.centre.office.projects.preview(
        federation.researcher, project_draft(dict.fromkeys(SITES, "hearts"))
    )

    noisy = sum(card.noisy_patients for card in cards)
    assert contract.project["dp"]["patients"] == noisy  # type: ignore[index]  # JSON


def test_a_run_begins_where_all_approved_and_counts(federation: Federation) -> None:
    project = approved_everywhere(federation)
    site = federation.sites["tum"]
    terms = agreement(site.office.projects.get(site.owner, project).contract)

    permit = begin_run(site.office.desk, terms, "heart-1")

    with site.office.desk.database.transaction() as connection:
        permit.check(connection)
    assert state(federation, "tum", project) is State.RUNNING
    assert begin_run(site.office.desk, terms, "heart-1").project == project  # a resumed run


@pytest.mark.parametrize("end", ["revoke", "pause", "stop", "freeze", "withdraw", "expire"])
def test_nothing_is_charged_after_the_end(federation: Federation, end: str) -> None:
    project = approved_everywhere(federation)
    site, steward = federation.sites["tum"], federation.steward("tum")
    office = site.office
    terms = agreement(office.projects.get(steward, project).contract)
    permit = begin_run(office.desk, terms, "heart-1")
    dataset = office.datasets.named(steward, "tum", "hearts").id

    match end:
        case "revoke":
            office.projects.revoke(steward, project, "a patient withdrew")
        case "pause":
            office.runs.pause(steward, project)
        case "stop":
            office.runs.stop(steward, project, "enough")
        case "freeze":
            office.datasets.freeze(steward, dataset, "an audit")
        case "withdraw":
            office.datasets.withdraw(steward, dataset, "for good")
        case _:
            site.clock.pass_days(91)

    with (
        pytest.raises(AccessDenied),
        office.desk.database.transaction() as connection,
    ):
        permit.check(connection)


def test_expired_projects_are_swept(federation: Federation) -> None:
    project = approved_everywhere(federation)
    site = federation.sites["tum"]
    site.clock.pass_days(91)

    assert site.office.runs.expire() == 1
    assert state(federation, "tum", project) is State.STOPPED


def test_terms_that_nobody_approved_do_not_run(federation: Federation) -> None:
    project = federation.submitted()
    office = federation.sites["tum"].office
    terms = agreement(office.projects.get(federation.steward("tum"), project).contract)

    with pytest.raises(AccessDenied):
        begin_run(office.desk, terms, "heart-1")
    with pytest.raises(AccessDenied, match="are of no project"):
        begin_run(office.desk, bytes(32), "heart-1")


def test_a_changed_byte_of_the_data_stops_the_run(federation: Federation) -> None:
    project = approved_everywhere(federation)
    site, steward = federation.sites["tum"], federation.steward("tum")
    office = site.office
    card = office.datasets.named(steward, "tum", "hearts")
    path = Path(office.datasets.folder(steward, card.id)) / "train_inputs.npy"
    before = path.read_bytes()
    terms = agreement(office.projects.get(steward, project).contract)
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))

    try:
        with pytest.raises(DataError, match=r"train_inputs\.npy changed"):
            begin_run(office.desk, terms, "r")
    finally:
        path.write_bytes(before)  # other tests share the folder


def test_more_runs_than_agreed_are_refused(federation: Federation) -> None:
    project = approved_everywhere(federation)
    office, steward = federation.sites["tum"].office, federation.steward("tum")
    terms = agreement(office.projects.get(steward, project).contract)
    permit = begin_run(office.desk, terms, "heart-1")
    runner = Actor(
        id="trainer", name="trainer", office="tum", kind=ActorKind.SERVICE, project=permit.project
    )

    assert office.runs.report(runner, project, "heart-1", "finished").state is State.FINISHED
    with pytest.raises(AccessDenied):
        begin_run(office.desk, terms, "heart-2")


# -- Who may not ------------------------------------------------------------------------


def test_an_author_never_approves_their_own(federation: Federation) -> None:
    site, steward = federation.sites["tum"], federation.steward("tum")
    projects = site.office.projects
    made = projects.draft(steward, alone())
    submitted = projects.submit(steward, made.id)

    with pytest.raises(AccessDenied, match="nobody decides on their own"):
        projects.review(steward, made.id, Said(verdict=Verdict.APPROVE, digest=submitted.digest))


def test_a_colleague_of_the_project_is_no_reviewer(federation: Federation) -> None:
    site = federation.sites["tum"]
    author, steward = site.join("rossi"), federation.steward("tum")
    draft = replace(alone(), people=("weber@x.org",))
    made = site.office.projects.draft(author, draft)
    submitted = site.office.projects.submit(author, made.id)

    with pytest.raises(AccessDenied, match="take part in it"):
        site.office.projects.review(
            steward, made.id, Said(verdict=Verdict.APPROVE, digest=submitted.digest)
        )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arm": "federated"}, "differential privacy is off"),
        ({"arm": "federated", "secure": False}, "the secure sum is off"),
    ],
)
def test_a_contract_against_the_policy_cannot_be_approved(
    federation: Federation, changes: dict[str, object], words: str
) -> None:
    lax = federation.centre.office.settings
    now = lax.get(federation.centre.owner)
    policy = msgspec.structs.replace(
        now.policy,
        arms=("federated",),
        without_guarantee="allowed-and-every-patient-is-exposed",
        secure_sum="not-needed",
    )
    lax.change(federation.centre.owner, replace(now, policy=policy))
    project = federation.submitted(**changes)

    with pytest.raises(AccessDenied, match=words):
        approve(federation, "tum", project)
    assert state(federation, "tum", project) is State.SUBMITTED


def test_a_guarantee_over_an_arm_without_noise_is_not_taken(federation: Federation) -> None:
    project = federation.submitted()
    centre = federation.centre.office
    message = centre.exchange.export(federation.researcher, project)
    found, contract = read_delivery(message)
    lying = msgspec.structs.replace(contract, arm="federated")
    forged = msgspec.structs.replace(found, revision=2, contract=contract_bytes(lying))

    with pytest.raises(AccessDenied, match="is not theirs"):  # the researcher did not sign that
        federation.sites["tum"].office.exchange.take(
            federation.steward("tum"), msgspec.json.encode(forged)
        )


# -- Changes ----------------------------------------------------------------------------


def test_an_edit_voids_every_yes_and_shows_what_changed(federation: Federation) -> None:
    project = approved_everywhere(federation)
    centre = federation.centre.office.projects
    before = centre.get(federation.researcher, project)
    draft = project_draft(dict.fromkeys(SITES, "hearts"), rate=0.5)

    centre.edit(federation.researcher, project, draft, before.version)
    centre.submit(federation.researcher, project)
    federation.carry()

    assert state(federation, "tum", project) is State.SUBMITTED
    changed = federation.sites["tum"].office.projects.difference(
        federation.steward("tum"), project, 1, 2
    )
    assert "project.learning_rate.initial: 0.1 -> 0.5" in changed


def test_a_yes_for_terms_that_were_read_before_is_refused(federation: Federation) -> None:
    project = federation.submitted()

    with pytest.raises(Conflict, match="you read"):
        federation.sites["tum"].office.projects.review(
            federation.steward("tum"), project, Said(verdict=Verdict.APPROVE, digest="00" * 32)
        )


def test_another_sites_new_dataset_leaves_this_sites_yes(
    federation: Federation, tmp_path_factory: pytest.TempPathFactory
) -> None:
    project = approved_everywhere(federation)
    lmu = federation.sites["lmu"]
    folder = make_folder(tmp_path_factory.mktemp("more") / "d", seed=9)
    lmu.office.datasets.register(federation.steward("lmu"), new_dataset(folder, "hearts-2"))
    federation._learn(federation.centre, lmu)
    centre = federation.centre.office.projects
    view = centre.get(federation.researcher, project)
    patients = view.contract.project["dp"]["patients"]  # type: ignore[index]  # JSON
    draft = project_draft({**dict.fromkeys(SITES, "hearts"), "lmu": "hearts-2"})
    fixed = replace(draft, toml=draft.toml.replace("[dp]", f"[dp]\npatients = {patients}"))
    federation.centre.clock.now = view.contract.expires.replace(year=2026, month=11)
    fixed = replace(fixed, days=(view.contract.expires - federation.centre.clock.now).days)

    centre.edit(federation.researcher, project, fixed, view.version)
    centre.submit(federation.researcher, project)

    stands = {one.site: one.verdict for one in centre.get(federation.researcher, project).decisions}
    assert stands["lmu"] is None


def test_a_question_goes_to_the_author_and_its_answer_back(federation: Federation) -> None:
    project = federation.submitted()
    tum, steward = federation.sites["tum"].office.projects, federation.steward("tum")
    digest = tum.get(steward, project).digest
    federation.sites["tum"].join("klein", "Data Steward")

    tum.review(steward, project, Said(verdict=Verdict.ASK, digest=digest, words="Why 5 rounds?"))
    federation.carry()
    asked = federation.centre.office.projects.get(federation.researcher, project)
    assert (asked.state, asked.last_words) == (State.NEEDS_CHANGES, "tum: Why 5 rounds?")

    federation.centre.office.projects.submit(federation.researcher, project, "Enough by search")
    federation.carry()
    answered = tum.get(steward, project)
    assert (answered.state, answered.last_words) == (State.SUBMITTED, "Enough by search")


def test_a_reviewer_sees_others_after_their_own_word(federation: Federation) -> None:
    project = federation.submitted()
    site = federation.sites["tum"]
    second = site.join("klein", "Data Steward")
    approve(federation, "tum", project, reviewers=2)

    assert site.office.projects.reviews(second, project) == ()
    digest = site.office.projects.get(second, project).digest
    after = site.office.projects.review(
        second, project, Said(verdict=Verdict.APPROVE, digest=digest)
    )

    assert len(site.office.projects.reviews(second, project)) == 2
    assert after.state is State.APPROVED


def test_nobody_approves_twice(federation: Federation) -> None:
    project = federation.submitted()
    approve(federation, "tum", project, reviewers=2)

    with pytest.raises(Conflict, match="has spoken"):
        approve(federation, "tum", project)


def test_conditions_only_tighten(federation: Federation) -> None:
    project = federation.submitted()

    with pytest.raises(ConfigError, match="the contract has 1"):
        approve(federation, "tum", project, max_runs=5)


def test_a_revocation_by_a_site_reaches_the_others(federation: Federation) -> None:
    project = approved_everywhere(federation)
    federation.sites["tum"].office.projects.revoke(federation.steward("tum"), project, "stop")

    federation.carry()

    seen = federation.centre.office.projects.get(federation.researcher, project)
    verdicts = {one.site: one.verdict for one in seen.decisions}
    assert verdicts["tum"] is Verdict.REVOKE
    assert seen.state is not State.READY


def test_a_price_is_shown_before_anything_is_spent(federation: Federation) -> None:
    project = federation.submitted()

    price = federation.sites["tum"].office.projects.price(federation.steward("tum"), project)

    assert price is not None
    assert price.before < price.after <= price.cap
    assert price.fits

# SPDX-License-Identifier: Apache-2.0
"""Datasets, their budgets, grants, requests, models, processes and other offices: the services."""

import hashlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from tests.adapters.office.conftest import Federation
from tests.adapters.office.made import Staff, as_office, make_folder, make_office, new_dataset
from tests.adapters.office.test_projects import approved_everywhere

from consilium.adapters.office.noisy_count import noisy_count
from consilium.adapters.office.values import (
    CardChanges,
    NewModel,
    RequestDraft,
    RequestState,
)
from consilium.errors import (
    AccessDenied,
    ConfigError,
    Conflict,
    DataError,
    NotFound,
    RemoteProtocolError,
)
from consilium.governance.access import Actor
from consilium.governance.association import AssociationState
from consilium.governance.catalogue import Dataset, DatasetState
from consilium.governance.grants import Grant, ReleaseKind, Wanted
from consilium.governance.hosting import Candidate, Limits, Update
from consilium.governance.model_permissions import ModelPermissions, Use
from consilium.governance.projects import State


@pytest.fixture
def site(federation: Federation) -> Staff:
    return federation.sites["tum"]


@pytest.fixture
def steward(site: Staff) -> Actor:
    return site.people["weber"]


@pytest.fixture
def card(site: Staff, steward: Actor) -> Dataset:
    return site.office.datasets.named(steward, "tum", "hearts")


# -- Registering and searching ----------------------------------------------------------


def test_the_count_on_the_card_is_charged(site: Staff, steward: Actor, card: Dataset) -> None:
    standing = site.office.datasets.standing(steward, card.id)

    assert 0 < standing.epsilon < 1
    assert standing.patients == 200
    assert abs(card.noisy_patients - 200) < 200


def test_noise_of_the_count_is_two_sided_geometric() -> None:
    bits = np.random.default_rng(0)
    drawn = [noisy_count(1000, 0.5, lambda n: int(bits.integers(n))) for _ in range(4000)]
    ratio = np.exp(-0.5)
    law = stats.dlaplace(0.5, loc=1000)

    counts = [drawn.count(1000 + k) for k in range(-6, 7)]
    expected = np.array([law.pmf(1000 + k) for k in range(-6, 7)])
    assert stats.chisquare(counts, expected / expected.sum() * sum(counts)).pvalue > 1e-4
    for wrong in (ratio ** (2 / 3), ratio ** (3 / 2)):  # it rejects other scales
        other = np.array([stats.dlaplace(-np.log(wrong)).pmf(k) for k in range(-6, 7)])
        assert stats.chisquare(counts, other / other.sum() * sum(counts)).pvalue < 1e-4


def test_a_name_is_taken_once_and_a_folder_is_needed(
    site: Staff, steward: Actor, tmp_path: Path
) -> None:
    with pytest.raises(Conflict):
        site.office.datasets.register(steward, new_dataset(make_folder(tmp_path / "again")))
    with pytest.raises(DataError):
        site.office.datasets.register(steward, new_dataset(tmp_path, "other"))


def test_a_cap_above_the_policy_takes_two(site: Staff, steward: Actor, tmp_path: Path) -> None:
    new = replace(new_dataset(make_folder(tmp_path / "more"), "more"), cap=9.0)

    with pytest.raises(AccessDenied, match="begins at 8"):
        site.office.datasets.register(steward, new)


def test_a_researcher_finds_cards_of_every_office(federation: Federation) -> None:
    found = federation.centre.office.datasets.search(federation.researcher, "disease", ("heart",))

    assert {one.office for one in found} == {"charite", "lmu", "tum"}


def test_an_office_brings_its_own_cards_alone(federation: Federation) -> None:
    centre, lmu, tum = federation.centre, federation.sites["lmu"], federation.sites["tum"]
    cards = lmu.office.datasets.cards(lmu.people["weber"])

    with pytest.raises(AccessDenied, match="its own cards"):
        centre.office.datasets.take_cards(as_office(centre, tum), cards)
    with pytest.raises(DataError):
        centre.office.datasets.take_cards(as_office(centre, tum), b"[1]")


def test_words_of_a_card_change_by_version(site: Staff, steward: Actor, card: Dataset) -> None:
    datasets = site.office.datasets
    changed = datasets.edit(steward, card.id, CardChanges(tags=("b", "a")), card.version)

    assert changed.tags == ("a", "b")
    with pytest.raises(Conflict):
        datasets.edit(steward, card.id, CardChanges(tags=()), card.version)


# -- Budgets ----------------------------------------------------------------------------


def test_raising_takes_two_people_and_lowering_one(
    site: Staff, steward: Actor, card: Dataset
) -> None:
    datasets = site.office.datasets
    datasets.lower_cap(steward, card.id, 4.0)
    assert datasets.standing(steward, card.id).cap == 4.0

    with pytest.raises(AccessDenied):
        datasets.lower_cap(steward, card.id, 5.0)
    proposal = datasets.propose(steward, card.id, 5.0, "one more project")
    with pytest.raises(AccessDenied, match="nobody decides on their own"):
        datasets.confirm(steward, proposal.id)
    assert datasets.standing(steward, card.id).cap == 4.0

    datasets.confirm(site.join("klein", "Data Steward"), proposal.id)
    assert datasets.standing(steward, card.id).cap == 5.0


def test_a_proposal_of_somebody_who_left_is_void(
    site: Staff, steward: Actor, card: Dataset
) -> None:
    proposal = site.office.datasets.propose(steward, card.id, 9.0, "more")
    second = site.join("klein", "Data Steward")
    site.office.people.revoke(site.owner, steward.id, "left")

    with pytest.raises(AccessDenied):
        site.office.datasets.confirm(second, proposal.id)


def test_freezing_takes_one_and_thawing_two(site: Staff, steward: Actor, card: Dataset) -> None:
    datasets = site.office.datasets
    assert datasets.freeze(steward, card.id, "an audit").state is DatasetState.FROZEN

    proposal = datasets.propose(steward, card.id, None, "the audit is over")
    assert [one.id for one in datasets.proposals(steward)] == [proposal.id]
    datasets.confirm(site.join("klein", "Data Steward"), proposal.id)

    assert datasets.get(steward, card.id).state is DatasetState.REGISTERED


def test_a_withdrawn_dataset_ends_its_projects_and_keeps_its_ledger(
    federation: Federation, site: Staff, steward: Actor, card: Dataset
) -> None:
    project = approved_everywhere(federation)

    site.office.datasets.withdraw(steward, card.id, "consent ended")

    assert site.office.projects.get(steward, project).state is State.REVOKED
    assert site.office.datasets.standing(steward, card.id).epsilon > 0
    with pytest.raises(AccessDenied):
        site.office.datasets.freeze(steward, card.id, "again")


def test_the_exact_budget_is_for_who_has_a_grant(
    site: Staff, steward: Actor, card: Dataset
) -> None:
    user = site.join("rossi")
    with pytest.raises(AccessDenied, match="have a grant"):
        site.office.datasets.standing(user, card.id)

    site.office.grants.give(steward, grant(site, card, user.id))

    assert site.office.datasets.standing(user, card.id).cap == 8.0


def test_a_patient_opts_out(site: Staff, steward: Actor, card: Dataset) -> None:
    site.office.datasets.opt_out(steward, "train-2-0")

    assert site.office.datasets.standing(steward, card.id).opted_out == 1
    with pytest.raises(NotFound):
        site.office.datasets.opt_out(steward, "nobody")


# -- Grants and requests ----------------------------------------------------------------


def grant(site: Staff, card: Dataset, holder: str) -> Grant:
    return Grant(
        id="",
        dataset=card.id,
        holder=holder,
        purposes=frozenset(),
        kinds=frozenset({ReleaseKind.QUERY}),
        epsilon_cap=1.0,
        expires=site.clock.now + timedelta(days=1),
        given_by="",
    )


def wanted(card: Dataset, holder: str) -> Wanted:
    return Wanted(
        dataset=card.id,
        holders=frozenset({holder}),
        purpose="any",
        kind=ReleaseKind.QUERY,
        epsilon=0.5,
    )


def test_a_grant_to_a_group_is_its_members(site: Staff, steward: Actor, card: Dataset) -> None:
    user, grants = site.join("rossi"), site.office.grants
    group = site.office.roles.make_group(site.owner, "heart")
    given = grants.give(steward, grant(site, card, group.id))
    assert not grants.allows(user, wanted(card, user.id)).allowed

    site.office.roles.add_member(site.owner, group.id, user.id)
    assert grants.allows(user, wanted(card, user.id)).allowed

    grants.revoke(steward, given.id, "over")
    assert not grants.allows(user, wanted(card, user.id)).allowed


def test_whose_grant_it_is_is_not_believed(site: Staff, steward: Actor, card: Dataset) -> None:
    user, other = site.join("rossi"), site.join("bianchi")
    site.office.grants.give(steward, grant(site, card, user.id))

    assert not site.office.grants.allows(other, wanted(card, user.id)).allowed


def test_nobody_grants_themselves(site: Staff, steward: Actor, card: Dataset) -> None:
    with pytest.raises(AccessDenied, match="nobody changes their own rights"):
        site.office.grants.give(steward, grant(site, card, steward.id))


def test_a_request_is_decided_by_somebody_else(site: Staff, steward: Actor, card: Dataset) -> None:
    grants, user = site.office.grants, site.join("rossi")
    asked = grants.ask(user, RequestDraft(dataset=card.id, reason="To count ages"))
    own = grants.ask(steward, RequestDraft(dataset=card.id, reason="For me"))

    with pytest.raises(AccessDenied):
        grants.decide(steward, own.id, accept=True, answer="yes")
    with pytest.raises(ConfigError):
        grants.decide(steward, asked.id, accept=False, answer="")
    done = grants.decide(steward, asked.id, accept=True, answer="yes")

    assert done.state is RequestState.ACCEPTED
    assert [one.id for one in grants.own(user)] == [done.grant]
    with pytest.raises(AccessDenied):
        grants.decide(steward, asked.id, accept=False, answer="no")


def test_a_request_is_seen_by_its_author_and_stewards(
    site: Staff, steward: Actor, card: Dataset
) -> None:
    grants, user = site.office.grants, site.join("rossi")
    asked = grants.ask(user, RequestDraft(dataset=card.id, reason="To count ages"))

    assert grants.requests(site.join("bianchi")) == ()
    assert [one.id for one in grants.requests(steward)] == [asked.id]
    assert grants.withdraw(user, asked.id).state is RequestState.WITHDRAWN


# -- Other offices ----------------------------------------------------------------------


def test_an_office_is_known_after_both_compared(tmp_path: Path) -> None:
    one, other = make_office(tmp_path, "one"), make_office(tmp_path, "two", "coordinator")
    asked = one.office.associations.ask(
        one.owner, "two", address="", own_address="", reason="together"
    )
    known = other.office.associations.receive(asked)

    with pytest.raises(AccessDenied, match="six words"):
        other.office.associations.answer(other.owner, known.id, accept=True, words="lusab babad")
    with pytest.raises(AccessDenied, match="is not associated"):
        other.office.associations.known("one", known.key)
    with pytest.raises(RemoteProtocolError, match="came before"):
        other.office.associations.receive(asked)


def test_a_forged_request_leaves_no_trace(tmp_path: Path) -> None:
    one, other = make_office(tmp_path, "one"), make_office(tmp_path, "two", "coordinator")
    asked = bytearray(
        one.office.associations.ask(one.owner, "two", address="", own_address="", reason="x")
    )
    asked[-1] ^= 1

    with pytest.raises(RemoteProtocolError, match="is not signed"):
        other.office.associations.receive(bytes(asked))
    assert other.office.associations.all(other.owner) == ()


def test_a_disconnected_office_is_heard_no_more(federation: Federation, site: Staff) -> None:
    project = federation.submitted()
    centre = as_office(site, federation.centre)
    known = next(one for one in site.office.associations.all(site.owner) if one.name == "centre")
    message = federation.centre.office.exchange.export(federation.researcher, project)

    ended = site.office.associations.revoke(site.owner, known.id, "a breach")

    assert ended.state is AssociationState.REVOKED
    with pytest.raises(AccessDenied, match="is not associated"):
        site.office.exchange.take(centre, message)
    assert site.office.projects.get(site.owner, project).state is State.REVOKED


# -- Models and processes ---------------------------------------------------------------


def test_a_model_is_opened_by_somebody_else_and_every_use_is_logged(
    federation: Federation,
) -> None:
    project = approved_everywhere(federation)
    models, author = federation.centre.office.models, federation.researcher
    digest = hashlib.sha256(b"weights").hexdigest()
    made = models.publish(
        author,
        NewModel(
            name="heart", digest=digest, file="f", project=project, run="r", epsilon=1.9, delta=1e-5
        ),
    )

    with pytest.raises(AccessDenied):
        models.permit(author, made.id, ModelPermissions(allow_download=True))
    models.permit(federation.centre.owner, made.id, ModelPermissions(encrypted_only=True))
    with pytest.raises(AccessDenied, match="only encrypted"):
        models.use(author, "heart", "latest", Use.DOWNLOAD)
    assert models.use(author, "heart", "latest", Use.ENCRYPTED_INFERENCE).version == 1
    models.withdraw(author, made.id, "a bug")
    with pytest.raises(NotFound):
        models.resolve(author, "heart")


def test_a_process_takes_an_approved_project_and_sites_by_their_own_name(
    federation: Federation, site: Staff
) -> None:
    project, centre = approved_everywhere(federation), federation.centre
    limits = Limits(name="heart", version="1", fewest_sites=1, fewest_updates=1, most_updates=1)
    process = centre.office.processes.host(centre.owner, limits, project)
    tum = as_office(centre, site)

    with pytest.raises(AccessDenied, match="is not site 'lmu'"):
        centre.office.processes.join(tum, process, Candidate(site="lmu", upload=9, download=9))
    assert centre.office.processes.join(
        tum, process, Candidate(site="tum", upload=9, download=9)
    ).allowed
    assert centre.office.processes.hand_in(
        tum, process, Update(site="tum", cycle=1, size=9)
    ).allowed
    with pytest.raises(Conflict, match="is hosted"):
        centre.office.processes.host(centre.owner, limits, project)

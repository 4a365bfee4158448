# SPDX-License-Identifier: Apache-2.0
"""A hostile coordinator, alone and with colluding sites, against honest ones."""

from collections.abc import Collection, Mapping
from itertools import compress, product

import msgspec
import numpy as np
import pytest
from cryptography.exceptions import InvalidTag
from tests.secagg.conftest import (
    MODEL,
    Play,
    joined,
    make_identities,
    make_job,
    make_vectors,
    plain_sum,
    secret,
)

from consilium.errors import OutOfTurn, RemoteProtocolError, RoundAborted
from consilium.secagg import keys, shamir
from consilium.secagg.coordinator import Unmasking
from consilium.secagg.job import SumJob, Vector
from consilium.secagg.masks import add_masks
from consilium.secagg.messages import Opening, Plan, Roster, Survivors
from consilium.secagg.recovery import masks_left
from consilium.secagg.session import say_hello
from consilium.secagg.site import Joined, Open, Uploaded, plan_masks, site_step

Lists = Mapping[int, tuple[int, ...]]  # site -> the survivors it is shown


def answer(play: Play, site: int, survivors: tuple[int, ...]) -> Opening:
    """Returns what a site answers for a list, without a trace in its state."""
    event = Open(survivors=Survivors(1, survivors), secret=secret("open", site))
    _, (opening,) = site_step(play.sites[site], event)
    assert isinstance(opening, Opening)
    return opening


def uploaded(job: SumJob) -> Play:
    """Returns a play in which every site has uploaded zeros in round 1."""
    play = Play(job).join().prepare()
    play.collect(play.plan(), [np.zeros(job.length, job.word)] * len(job.identities))
    return play


# -- Two lists of survivors -----------------------------------------------------------


def opened_lists(play: Play, lists: Lists, colluders: Collection[int]) -> set[tuple[int, ...]]:
    """Returns the lists for which an honest seal opens, the colluders answering for all."""
    state = play.sites[max(lists)]
    assert isinstance(state, Uploaded)
    plan = keys.plan_digest(state.joined.session.digest, state.plan)
    shown = set(lists.values())
    answers = [
        (survivors, answer(play, site, survivors))
        for site, own in lists.items()
        for survivors in shown
        if site in survivors and (site in colluders or own == survivors)
    ]
    return {
        survivors
        for survivors, opening in answers
        if opening.site not in colluders and opens(play.job, plan, survivors, opening, answers)
    }


def opens(
    job: SumJob,
    plan: bytes,
    survivors: tuple[int, ...],
    opening: Opening,
    answers: Collection[tuple[tuple[int, ...], Opening]],
) -> bool:
    """Returns whether any of the answers' tokens open the seal, whatever list they were for."""
    shares = by_peer(survivors, opening.site, opening.gate_shares)
    good = {
        shamir.point(other.site): share
        for listed, other in answers
        for token in by_peer(listed, other.site, other.tokens).items()
        if token[0] == opening.site and other.site in shares
        for share in [(shares[other.site] + token[1]) % shamir.PRIME]
        if keys.commitment(share) in shamir.rows(opening.commitments)
    }
    digests = (keys.opening_digest(plan, survivors), keys.opening_digest(plan, ()))
    return any(
        unseals(opening, dict(list(good.items())[:needed]), digest)
        for needed in range(1, job.threshold)
        if needed <= len(good)
        for digest in digests
    )


def by_peer(survivors: tuple[int, ...], site: int, table: bytes) -> dict[int, int]:
    others = [peer for peer in survivors if peer != site]
    return dict(zip(others, shamir.unpack(table), strict=True))


def unseals(opening: Opening, shares: Mapping[int, int], digest: bytes) -> bool:
    try:
        cipher = keys.seal(shamir.combine(shares))
        cipher.decrypt(keys.ONE_NONCE, opening.sealed, digest)
    except InvalidTag:
        return False
    return True


@pytest.mark.parametrize(
    ("sites", "threshold", "colluders"), [(5, 4, 1), (10, 7, 2), (9, 6, 2), (7, 6, 4)]
)
def test_two_lists_of_survivors_never_both_open(sites: int, threshold: int, colluders: int) -> None:
    """The coordinator splits the honest sites between two lists in every way."""
    play = uploaded(make_job(sites, threshold, colluders))
    everyone, victim = tuple(range(sites)), colluders
    without = tuple(site for site in everyone if site != victim)

    counts = [
        len(
            opened_lists(
                play,
                {site: everyone if site < cut else without for site in everyone},
                range(colluders),
            )
        )
        for cut in range(victim + 1, sites + 1)
    ]

    assert max(counts) == 1  # the attack is strong enough to open one


def test_a_site_opens_one_list_once() -> None:
    play = uploaded(make_job(5, 4, 1))

    play.opening(0, Survivors(1, (0, 1, 2, 3)))

    for survivors in ((0, 1, 2, 3, 4), (0, 1, 2, 4), (0, 1, 2, 3)):
        with pytest.raises(OutOfTurn):
            play.opening(0, Survivors(1, survivors))


def test_an_answer_for_another_list_does_not_count() -> None:
    play = uploaded(make_job(5, 4, 1))
    survivors = play.survivors()
    other = answer(play, 0, (0, 1, 2, 3))
    play.open(survivors, silent=(0, 1))

    forged = msgspec.structs.replace(
        other, gate_shares=bytes(128), commitments=bytes(128), tokens=other.tokens + bytes(32)
    )
    play.tell(forged)

    with pytest.raises(RoundAborted, match="too few openings agree"):
        play.finish()


# -- Withheld and repeated uploads ----------------------------------------------------


def test_a_late_upload_of_a_dropped_site_stays_masked() -> None:
    """The coordinator holds an upload back, has its site dropped, and takes all pair masks."""
    job = make_job(5, 4, 1, length=1 << 15)
    play = Play(job).join().prepare()
    plan, zeros = play.plan(), [np.zeros(job.length, job.word)] * 5
    withheld = play.upload(4, plan, zeros[4])
    play.collect(plan, zeros, lost=[4])
    play.open(play.survivors())
    assert isinstance(play.coordinator, Unmasking)
    left = masks_left(play.coordinator.closed, play.coordinator.openings)
    pair_keys = (*left.added, *left.subtracted)[4:]  # after the survivors' own masks

    for signs in product((True, False), repeat=4):
        vector = np.frombuffer(withheld.vector, job.word).copy()
        plus = list(compress(pair_keys, signs))
        add_masks(vector, add=plus, subtract=[key for key in pair_keys if key not in plus])
        assert len(np.unique(vector)) > 0.35 * 2**16  # as many as uniform words take: 39 %


def test_a_masked_vector_looks_uniform() -> None:
    job = make_job(3, 3, 1, length=1 << 18)
    play = Play(job).join().prepare()

    upload = play.upload(0, play.plan(), np.zeros(job.length, job.word))

    counts = np.bincount(np.frombuffer(upload.vector, np.uint8), minlength=256)
    expected = 2 * job.length / 256
    assert float(((counts - expected) ** 2 / expected).sum()) < 256 + 6 * (2 * 256) ** 0.5


@pytest.mark.parametrize("change", [{}, {"model": bytes(32)}, {"round": 0}, {"members": (0, 1, 3)}])
def test_a_second_vector_for_a_round_is_refused(change: dict[str, object]) -> None:
    job = make_job(4, 3, 1)
    play, vectors = Play(job).join().prepare(), make_vectors(job)
    plan = play.plan()
    play.upload(0, plan, vectors[0])

    with pytest.raises(RemoteProtocolError, match="expected one after 1"):
        play.upload(0, msgspec.structs.replace(plan, **change), vectors[1])


def test_an_earlier_round_is_refused_after_a_later_one() -> None:
    job = make_job(3, 3, 1)
    play, vectors = Play(job).join().prepare(1).prepare(2), make_vectors(job)
    play.upload(0, Plan(2, (0, 1, 2), MODEL), vectors[0])

    with pytest.raises(RemoteProtocolError, match="expected one after 2"):
        play.upload(0, Plan(1, (0, 1, 2), MODEL), vectors[0])


def test_an_unprepared_plan_is_refused() -> None:
    job = make_job(3, 3, 1)
    play = Play(job).join().prepare()

    with pytest.raises(RemoteProtocolError, match="no prekeys were given"):
        play.upload(0, Plan(9, (0, 1, 2), MODEL), make_vectors(job)[0])


# -- Sites that are shown different things --------------------------------------------


def without_own_masks(play: Play, plans: Collection[Plan]) -> Vector:
    """Returns the sum of uploads of zeros, one for each plan, less each site's own mask."""
    total = np.zeros(play.job.length, play.job.word)
    for site, plan in enumerate(plans):
        state = joined(play, site)
        digest = keys.plan_digest(state.session.digest, plan)
        upload = play.upload(site, plan, np.zeros(play.job.length, play.job.word))
        total += np.frombuffer(upload.vector, play.job.word)
        add_masks(total, subtract=[keys.self_mask(state.prepared[1], digest)])
    return total


def test_pair_masks_cancel_where_all_are_shown_one_plan() -> None:
    play = Play(make_job(4, 4, 2, length=1 << 12)).join().prepare()

    total = without_own_masks(play, [play.plan()] * 4)

    assert not total.any()


@pytest.mark.parametrize("change", [{"model": bytes(32)}, {"members": (0, 1, 2)}])
def test_model_inconsistency_leaves_masks_that_do_not_cancel(change: dict[str, object]) -> None:
    """Pasquini et al. 2022, and the same with the members."""
    play = Play(make_job(4, 3, 1, length=1 << 12)).join().prepare()
    plan = play.plan()

    total = without_own_masks(play, [msgspec.structs.replace(plan, **change), plan, plan, plan])

    assert len(np.unique(total)) > 0.9 * 2**12


@pytest.mark.parametrize("change", [{"model": bytes(32)}, {"members": (0, 1, 2)}, {"round": 2}])
def test_masks_of_two_plans_share_no_key(change: dict[str, object]) -> None:
    play = Play(make_job(4, 3, 1)).join().prepare(1).prepare(2)
    plan = Plan(1, (0, 1, 2, 3), MODEL)

    first = plan_masks(joined(play, 1), plan)
    second = plan_masks(joined(play, 1), msgspec.structs.replace(plan, **change))

    used = {*first.added, *first.subtracted}
    assert len(used) == 4
    assert not used & {*second.added, *second.subtracted}


def test_openings_for_different_plans_do_not_open() -> None:
    job = make_job(4, 4, 2)
    play, zeros = Play(job).join().prepare(), np.zeros(7, np.uint16)
    plan = play.plan()
    play.collect(plan, [zeros] * 4, lost=[0])
    play.tell(play.upload(0, msgspec.structs.replace(plan, model=bytes(32)), zeros))
    play.open(play.survivors())

    with pytest.raises(RoundAborted, match="too few openings agree") as abort:
        play.finish()

    assert abort.value.blamed == (0,)


def test_a_site_with_another_roster_cannot_spoil_the_sum() -> None:
    job = make_job(5, 4, 1)
    play, vectors = Play(job), make_vectors(job)
    roster = play.introduce()
    others = Roster(roster.hellos[1:])  # site 4 is told that site 0 is absent
    play.sites = [site_step(state, roster)[0] for state in play.sites[:4]] + [
        site_step(play.sites[4], others)[0]
    ]
    play.prepare(absent=[4])

    with pytest.raises(RemoteProtocolError) as refusal:
        play.tell(play.prekeys(4))

    assert refusal.value.sender == 4
    assert play.round(vectors).vector.tolist() == plain_sum(job, vectors, range(4))


def test_chains_of_different_rosters_differ() -> None:
    job = make_job(5, 4, 1)
    play = Play(job)
    roster = play.introduce()

    first, _ = site_step(play.sites[1], roster)
    second, _ = site_step(play.sites[1], Roster(roster.hellos[:4]))

    assert isinstance(first, Joined)
    assert isinstance(second, Joined)
    assert all(first.chains[peer] != second.chains[peer] for peer in range(4))


# -- Short and strange lists ----------------------------------------------------------


@pytest.mark.parametrize(
    "members",
    [(0, 1, 2), (0, 1, 2, 2), (1, 2, 3, 4), (0, 1, 2, 9), (0, 2, 1, 3), (-1, 0, 1, 2), ()],
)
def test_members_that_break_a_rule_are_refused(members: tuple[int, ...]) -> None:
    job = make_job(5, 4, 1)
    play = Play(job).join().prepare()

    with pytest.raises(RemoteProtocolError, match="list of"):
        play.upload(0, Plan(1, members, MODEL), make_vectors(job)[0])


@pytest.mark.parametrize(
    "survivors", [(0, 1, 2), (0, 0, 1, 2), (1, 2, 3, 4), (0, 1, 2, 7), (3, 2, 1, 0), ()]
)
def test_survivors_that_break_a_rule_are_refused(survivors: tuple[int, ...]) -> None:
    play = uploaded(make_job(5, 4, 1))

    with pytest.raises(RemoteProtocolError, match="list of"):
        answer(play, 0, survivors)


def test_survivors_outside_the_plan_are_refused() -> None:
    job = make_job(6, 4, 1)
    play = Play(job).join().prepare(absent=[5])
    play.collect(play.plan(), make_vectors(job))

    with pytest.raises(RemoteProtocolError, match=r"\[5\] do not belong"):
        answer(play, 0, (0, 1, 2, 3, 5))


def test_one_share_less_than_the_threshold_recovers_another_secret() -> None:
    play = Play(make_job(5, 4, 1)).join()
    prekeys = play.prekeys(0)
    chains = joined(play, 0).chains
    steps = {site: keys.advance(chains, 1)[site] for site in range(5)}
    tables: dict[keys.Kind, bytes] = {"self": prekeys.self_shares, "pair": prekeys.pair_shares}

    for kind, table in tables.items():
        shares = {
            shamir.point(site): (padded + keys.share_pad(steps[site], kind, 0)) % shamir.PRIME
            for site, padded in enumerate(shamir.unpack(table))
        }
        fewer = {point: share for point, share in shares.items() if point <= 3}
        enough = {point: share for point, share in shares.items() if point <= 4}
        others = {point: share for point, share in shares.items() if point >= 2}
        assert shamir.combine(enough) == shamir.combine(others)
        assert shamir.combine(fewer) != shamir.combine(enough)


def test_the_noise_floor_is_enforced() -> None:
    """Six of ten open shares, but one drop leaves nine: noise is split by nine less one."""
    play = uploaded(make_job(10, 6, 1, drops=1))

    answer(play, 0, tuple(range(9)))

    with pytest.raises(RemoteProtocolError, match="list of 8 sites; expected at least 9"):
        answer(play, 0, tuple(range(8)))


# -- Rosters --------------------------------------------------------------------------


def rosters(play: Play) -> dict[str, Roster]:
    """Returns rosters that no site may join."""
    first, second, third = play.introduce().hellos
    forged = keys.public_key(secret("hostile"))
    return {
        "substituted key": Roster((first, msgspec.structs.replace(second, key=forged), third)),
        "other identity": Roster((first, msgspec.structs.replace(third, site=1), third)),
        "own hello altered": Roster((msgspec.structs.replace(first, key=forged), second, third)),
        "own hello missing": Roster((second, third)),
        "repeated": Roster((first, second, second)),
        "unsorted": Roster((second, first, third)),
        "stranger": Roster((first, second, third, msgspec.structs.replace(third, site=3))),
        "too few": Roster((first, second)),
        "void key": Roster((first, msgspec.structs.replace(second, key=bytes(32)), third)),
        "empty": Roster(()),
    }


NAMES = sorted(rosters(Play(make_job(3, 3, 1))))


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_roster_is_refused(name: str) -> None:
    play = Play(make_job(3, 3, 1))
    roster = rosters(play)[name]

    with pytest.raises(RemoteProtocolError):
        site_step(play.sites[0], roster)


def test_a_roster_without_the_own_hello_is_refused() -> None:
    """Enough others are left, and so they are when an older hello of the site is replayed."""
    play = Play(make_job(4, 3, 1))
    hellos = play.introduce().hellos
    identity = make_identities(4)[0]
    older = say_hello(play.job, 0, identity, keys.public_key(secret("older session")))

    for roster in (Roster(hellos[1:]), Roster((older, *hellos[1:]))):
        with pytest.raises(RemoteProtocolError, match="without this site's own hello"):
            site_step(play.sites[0], roster)


def test_a_site_joins_once() -> None:
    play = Play(make_job(3, 3, 1))
    roster = play.introduce()
    play.sites[0], _ = site_step(play.sites[0], roster)

    with pytest.raises(OutOfTurn):
        site_step(play.sites[0], roster)

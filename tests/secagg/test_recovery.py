# SPDX-License-Identifier: Apache-2.0
"""Hostile sites: their false shares are dropped where others suffice, and named where not."""

from collections.abc import Callable, Sequence

import msgspec
import pytest
from tests.secagg.conftest import Play, make_job, make_vectors, plain_sum, secret

from consilium.errors import RoundAborted
from consilium.secagg import keys, shamir
from consilium.secagg.coordinator import AbandonRound
from consilium.secagg.messages import Opening, Survivors
from consilium.secagg.site import Uploaded

JOB = make_job(5, 4, 1)
VECTORS = make_vectors(JOB)
REPLACE = msgspec.structs.replace


def garbage(table: bytes) -> bytes:
    return bytes(byte ^ 1 for byte in table)


def false_pads(play: Play, site: int, survivors: Survivors) -> Opening:
    """Returns an opening whose seal opens well and holds false pads."""
    state = play.sites[site]
    assert isinstance(state, Uploaded)
    opening = play.opening(site, survivors)
    plan = keys.plan_digest(state.joined.session.digest, state.plan)
    digest = keys.opening_digest(plan, survivors.sites)
    fresh = keys.fresh(secret("open", site), "opening", digest)
    pads = shamir.pack(range(len(state.plan.members)))
    cipher = keys.seal(keys.fresh_element(fresh, "seal"))
    return REPLACE(opening, sealed=cipher.encrypt(keys.ONE_NONCE, pads, digest))


def collected(lost: Sequence[int] = ()) -> tuple[Play, Survivors]:
    play = Play(JOB).join().prepare()
    play.collect(play.plan(), VECTORS, lost=lost)
    return play, play.survivors()


def dealt(site: int, edits: dict[str, Callable[[bytes], bytes]], lost: Sequence[int] = ()) -> Play:
    """Returns a play whose site `site` changed fields of its prekeys, all opened."""
    play = Play(JOB).join().prepare(absent=[site])
    prekeys = play.prekeys(site)
    changed = {name: edit(getattr(prekeys, name)) for name, edit in edits.items()}
    play.tell(REPLACE(prekeys, **changed))
    play.collect(play.plan(), VECTORS, lost=lost)
    play.open(play.survivors())
    return play


# -- Openings -------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [["sealed"], ["tokens"], ["gate_shares"], ["commitments"]])
def test_one_false_opening_of_five_is_survived(fields: list[str]) -> None:
    play, survivors = collected()
    opening = play.opening(2, survivors)
    changed = {name: garbage(getattr(opening, name)) for name in fields}

    play.tell(REPLACE(opening, **changed))
    play.open(survivors, silent=[2])

    assert play.finish().vector.tolist() == plain_sum(JOB, VECTORS, range(5))


def test_false_pads_of_one_site_of_five_are_survived() -> None:
    play, survivors = collected()

    play.tell(false_pads(play, 2, survivors))
    play.open(survivors, silent=[2])

    assert play.finish().vector.tolist() == plain_sum(JOB, VECTORS, range(5))


@pytest.mark.parametrize("fields", [["sealed"], ["tokens"], ["gate_shares"], ["commitments"]])
def test_a_false_opening_that_cannot_be_spared_is_named(fields: list[str]) -> None:
    play, survivors = collected(lost=[4])
    opening = play.opening(2, survivors)

    play.tell(REPLACE(opening, **{name: garbage(getattr(opening, name)) for name in fields}))
    play.open(survivors, silent=[2])

    with pytest.raises(RoundAborted, match="too few openings agree") as abort:
        play.finish()
    assert abort.value.blamed == (2,)


def test_false_pads_that_cannot_be_spared_are_named() -> None:
    play, survivors = collected(lost=[4])

    play.tell(false_pads(play, 2, survivors))
    play.open(survivors, silent=[2])

    with pytest.raises(RoundAborted, match="too few shares of a member") as abort:
        play.finish()
    assert abort.value.blamed == (2,)


# -- Prekeys --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["self_shares", "self_commitments"])
def test_a_false_dealer_is_named(name: str) -> None:
    play = dealt(3, {name: garbage})

    with pytest.raises(RoundAborted, match="too few shares of a member") as abort:
        play.finish()
    assert abort.value.blamed == (3,)


@pytest.mark.parametrize("name", ["pair_shares", "pair_commitments"])
def test_a_false_dealer_that_dropped_out_is_named(name: str) -> None:
    play = dealt(3, {name: garbage}, lost=[3])

    with pytest.raises(RoundAborted, match="too few shares of a member") as abort:
        play.finish()
    assert abort.value.blamed == (3,)


def test_a_false_envelope_of_a_dropped_site_is_named() -> None:
    play = dealt(3, {"envelope": garbage}, lost=[3])

    with pytest.raises(RoundAborted, match="an envelope does not open") as abort:
        play.finish()
    assert abort.value.blamed == (3,)


def test_what_was_not_needed_does_no_harm() -> None:
    play = dealt(3, {"pair_shares": garbage, "pair_commitments": garbage, "envelope": garbage})

    assert play.finish().vector.tolist() == plain_sum(JOB, VECTORS, range(5))


def test_one_false_share_is_survived() -> None:
    play = dealt(3, {"self_shares": lambda table: garbage(table[:32]) + table[32:]})

    assert play.finish().vector.tolist() == plain_sum(JOB, VECTORS, range(5))


def test_a_pair_that_does_not_fit_is_named_where_nothing_is_proved() -> None:
    """Site 0 holds a false share of site 3, and nobody can be spared: either may have lied."""
    play = Play(JOB).join().prepare(absent=[3])
    prekeys = play.prekeys(3)
    table = prekeys.self_shares
    play.tell(REPLACE(prekeys, self_shares=garbage(table[:32]) + table[32:]))
    play.collect(play.plan(), VECTORS)
    play.open(play.survivors(), silent=[4])

    with pytest.raises(RoundAborted) as abort:
        play.finish()

    assert abort.value.blamed == (0, 3)


def test_the_next_round_runs_after_a_false_dealer() -> None:
    play = dealt(3, {"self_shares": garbage})
    play.prepare(2)

    play.tell(AbandonRound())

    assert play.round(VECTORS, 2).vector.tolist() == plain_sum(JOB, VECTORS, range(5))

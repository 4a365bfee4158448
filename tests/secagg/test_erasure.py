# SPDX-License-Identifier: Apache-2.0
"""What a thief finds in a state, and what anything prints: no past keys, no secrets."""

from dataclasses import replace

import msgspec
from tests.secagg.conftest import (
    MODEL,
    Play,
    joined,
    make_identities,
    make_job,
    make_vectors,
    secret,
)

from consilium.secagg import keys
from consilium.secagg.messages import Plan, Roster
from consilium.secagg.session import say_hello
from consilium.secagg.site import Contribute, Encapsulated, Joined, Uploaded, site_step


def test_keys_of_a_round_are_gone_after_its_opening() -> None:
    job = make_job(3, 3, 1)
    play = Play(job).join().prepare()
    before = joined(play, 0)

    play.round(make_vectors(job))

    after = joined(play, 0)
    assert not set(before.chains.values()) & set(after.chains.values())
    assert after.prepared == {}
    assert after.at == 2


def test_keys_of_an_abandoned_round_are_gone_after_the_next_upload() -> None:
    job = make_job(3, 3, 1)
    play = Play(job).join().prepare(1).prepare(2)
    plan = Plan(1, (0, 1, 2), MODEL)
    play.upload(0, plan, make_vectors(job)[0])

    play.upload(0, msgspec.structs.replace(plan, round=2), make_vectors(job)[0])

    state = play.sites[0]
    assert isinstance(state, Uploaded)
    assert (state.joined.at, state.joined.done, dict(state.joined.prepared)) == (2, 2, {})


def test_the_session_secret_is_gone_after_joining() -> None:
    play = Play(make_job(3, 3, 1)).join()

    state = joined(play, 0)

    kept = [getattr(state, name) for name in Joined.__slots__]
    assert secret("begin", 0) not in [*kept, *state.chains.values()]
    assert play.hellos[0].key not in kept


def test_secrets_of_a_hybrid_setup_are_gone_after_joining() -> None:
    play = Play(replace(make_job(3, 3, 1), post_quantum=True))
    roster = play.introduce()
    table = play.agree(roster)
    before = play.sites[0]
    assert isinstance(before, Encapsulated)

    after, _ = site_step(before, table)

    assert isinstance(after, Joined)
    hidden = {before.secret, *before.agreed.values(), *before.given.values()}
    assert not hidden & {*after.chains.values()}
    kept = [getattr(after, name) for name in Joined.__slots__]
    assert not [value for value in kept if isinstance(value, bytes)]
    assert all(repr(value)[2:12] not in repr(before) for value in hidden)


def test_nothing_secret_is_shown_by_any_state_or_message() -> None:
    job = make_job(3, 3, 1)
    play = Play(job).join()
    chain = joined(play, 0).chains[1]
    prekeys = play.prekeys(0)
    play.tell(prekeys)
    play.prepare(absent=[0])
    shown = [repr(state) for state in (*play.sites, play.coordinator, prekeys)]
    event = Contribute(plan=play.plan(), vector=make_vectors(job)[0], next_secret=secret("next"))
    play.sites[0], sent = site_step(play.sites[0], event)
    shown += [repr(item) for item in (event, *sent, play.sites[0], play.coordinator)]

    hidden = [secret("next"), chain, prekeys.self_shares, prekeys.envelope]
    text = "".join(shown)

    assert all(repr(value)[2:12] not in text for value in hidden)
    assert "self_shares=<96 bytes>" in text
    assert "vector=<14 bytes>" in text
    assert "array(" not in text
    assert "chains" not in text


def test_two_sessions_of_one_job_share_no_chain() -> None:
    play = Play(make_job(3, 3, 1))
    first, second, third = play.introduce().hellos
    identity = make_identities(3)[0]
    again = say_hello(play.job, 0, identity, keys.public_key(secret("another session")))

    old, _ = site_step(play.sites[1], Roster((first, second, third)))
    new, _ = site_step(play.sites[1], Roster((again, second, third)))

    assert isinstance(old, Joined)
    assert isinstance(new, Joined)
    assert not set(old.chains.values()) & set(new.chains.values())

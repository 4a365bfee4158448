# SPDX-License-Identifier: Apache-2.0
"""Post-quantum sessions: they sum like the others, and a hostile coordinator gains nothing."""

from dataclasses import replace
from itertools import combinations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.secagg import fips203
from tests.secagg.conftest import (
    Play,
    few,
    joined,
    make_identities,
    make_job,
    make_vectors,
    plain_sum,
)

from consilium.adapters.randomness import encapsulate
from consilium.errors import LocalProtocolError, OutOfTurn, RemoteProtocolError
from consilium.secagg import kem, keys
from consilium.secagg.coordinator import CloseCiphertexts
from consilium.secagg.job import SumJob, smallest_threshold
from consilium.secagg.messages import Ciphertexts, CiphertextTable, Hello, Roster
from consilium.secagg.protocol import Randomness, run_secure_sum
from consilium.secagg.session import say_ciphertexts
from consilium.secagg.site import (
    Begin,
    Encapsulate,
    Encapsulated,
    Invited,
    Joined,
    SiteEvent,
    site_step,
)

EARNEST = Randomness(b"s" * 32, encapsulate)


def hybrid(sites: int, threshold: int, colluders: int) -> SumJob:
    return replace(make_job(sites, threshold, colluders), post_quantum=True)


JOB = hybrid(4, 3, 1)


def agreeing(job: SumJob = JOB) -> tuple[Play, Roster, list[Ciphertexts]]:
    """Returns a play in which every site has said its ciphertexts, and nobody was told."""
    play = Play(job)
    roster = play.introduce()
    said = [play.encapsulate(site, roster) for site in range(len(job.identities))]
    return play, roster, said


def join(play: Play, site: int, *entries: Ciphertexts) -> Joined:
    state, _ = site_step(play.sites[site], CiphertextTable(entries))
    assert isinstance(state, Joined)
    return state


# -- The sum --------------------------------------------------------------------------


@few
@given(data=st.data(), sites=st.integers(3, 6))
def test_the_total_is_the_sum_of_the_survivors(data: st.DataObject, sites: int) -> None:
    threshold = data.draw(st.integers(smallest_threshold(sites, 0), sites))
    job, identities = hybrid(sites, threshold, 0), make_identities(sites)
    vectors = make_vectors(job, data.draw(st.integers(0, 99)))
    lost = data.draw(st.sets(st.integers(0, sites - 1), max_size=sites - threshold))

    total = run_secure_sum(job, identities, vectors, EARNEST, lost=lost)

    assert total.sites == tuple(sorted(set(range(sites)) - lost))
    assert total.vector.tolist() == plain_sum(job, vectors, total.sites)


PATTERNS = [
    (absent, quiet, lost)
    for count in range(3)
    for gone in combinations(range(6), count)
    for absent, quiet, lost in [
        (gone, (), ()),
        ((), gone, ()),
        ((), (), gone),
        (gone[:1], gone[1:], ()),
    ]
]


@pytest.mark.parametrize(("absent", "quiet", "lost"), PATTERNS)
def test_a_site_may_stop_anywhere_in_the_setup(
    absent: tuple[int], quiet: tuple[int], lost: tuple[int]
) -> None:
    job = hybrid(6, 4, 1)
    vectors, gone = make_vectors(job), {*absent, *quiet}
    play = Play(job, absent=absent, quiet=quiet).join().prepare(absent=gone)

    total = play.round(vectors, lost=lost)

    assert total.sites == tuple(sorted(set(range(6)) - gone - {*lost}))
    assert total.vector.tolist() == plain_sum(job, vectors, total.sites)


@few
@given(order=st.permutations(range(4)))
def test_ciphertexts_come_in_any_order(order: list[int]) -> None:
    play, _, said = agreeing()
    vectors = make_vectors(JOB)

    for site in order:
        play.tell(said[site])
    play.sites = [*(join(play, site, *said) for site in range(4))]
    play.tell(CloseCiphertexts())

    assert play.prepare().round(vectors).vector.tolist() == plain_sum(JOB, vectors, range(4))


def test_too_few_ciphertexts_close_no_session() -> None:
    with pytest.raises(LocalProtocolError, match="2 sites sent ciphertexts; expected at least 3"):
        Play(JOB, quiet=(1, 3)).join()


def test_a_site_that_stopped_in_the_setup_cannot_come_back_into_the_session() -> None:
    play = Play(JOB, quiet=(2,)).join()
    late = replace(joined(play, 1), site=2)

    play.sites[2] = late
    with pytest.raises(RemoteProtocolError, match="not on the roster") as refusal:
        play.tell(play.prekeys(2))

    assert refusal.value.sender == 2


def test_a_hybrid_job_does_not_run_without_draws() -> None:
    with pytest.raises(OutOfTurn):
        run_secure_sum(JOB, make_identities(4), make_vectors(JOB), Randomness(b"s" * 32))


# -- Both secrets are in a chain ------------------------------------------------------


def test_both_sites_of_every_pair_hold_one_chain() -> None:
    play = Play(JOB).join()

    chains = [joined(play, site).chains for site in range(4)]

    assert all(chains[i][j] == chains[j][i] for i, j in combinations(range(4), 2))
    assert len({chain for own in chains for chain in own.values()}) == 4 + 6


def test_a_chain_needs_both_secrets() -> None:
    """What the sites compute is the hybrid of both, and no function of one of them is it."""
    play, _, said = agreeing()
    state = play.sites[2]
    assert isinstance(state, Encapsulated)
    classical = state.agreed[0]
    quantum = kem.decapsulate(state.secret, said[0].ciphertexts[1088 : 2 * 1088])
    after = join(play, 2, *said)

    def chain(shared: bytes) -> bytes:
        return keys.first_chain(shared, after.session.digest, 0, 2)

    assert after.chains[0] == chain(keys.hybrid_secret(classical, quantum))
    assert after.chains[0] not in [chain(classical), chain(quantum)]
    assert after.chains[0] != chain(keys.hybrid_secret(classical, bytes(32)))
    assert after.chains[0] != chain(keys.hybrid_secret(bytes(32), quantum))


def test_new_draws_alone_make_new_chains() -> None:
    """Who holds every X25519 secret of a session still lacks its chains."""
    chains = []
    for who in ("first", "second"):
        play = Play(JOB)
        roster = play.introduce()
        for site in range(4):
            play.site(site, Encapsulate(roster, fips203.replayed(who, site)))
        states = play.sites
        said = [state.said for state in states if isinstance(state, Encapsulated)]
        chains.append({join(play, 1, *said).chains[peer] for peer in (0, 2, 3)})

    assert not chains[0] & chains[1]


def test_a_job_with_and_one_without_share_no_chain() -> None:
    plain = Play(replace(JOB, post_quantum=False)).join()
    both = Play(JOB).join()

    assert not set(joined(plain, 0).chains.values()) & set(joined(both, 0).chains.values())


# -- A hostile coordinator ------------------------------------------------------------


def tables() -> dict[str, tuple[Ciphertexts, ...]]:
    """Returns tables that site 2 may not join by; its own entry is right but where it says so."""
    play, roster, said = agreeing()
    change = msgspec.structs.replace
    first, second = said[0].ciphertexts, said[1].ciphertexts
    forged = fips203.encapsulate(roster.hellos[2].key[32:], b"h" * 32)[1]
    hostile = first[:1088] + forged + first[2 * 1088 :]
    another = Play(JOB)
    other_roster = Roster((*another.introduce().hellos[:3],))
    fewer = [another.encapsulate(site, other_roster) for site in range(3)]
    colluder = make_identities(4)[3]
    state = play.sites[3]
    assert isinstance(state, Encapsulated)
    return {
        "swapped ciphertext": (change(said[0], ciphertexts=hostile), *said[1:]),
        "ciphertexts exchanged between sites": (
            change(said[0], ciphertexts=second + second[:1088]),
            *said[1:],
        ),
        "rows exchanged": (
            change(said[0], ciphertexts=first[1088:2176] + first[:1088] + first[2176:]),
            *said[1:],
        ),
        "signed by a colluder": (
            say_ciphertexts(state.roster, 0, colluder, hostile),
            *said[1:],
        ),
        "missing ciphertext": (change(said[0], ciphertexts=first[1088:]), *said[1:]),
        "no ciphertexts": (change(said[0], ciphertexts=b""), *said[1:]),
        "replayed from another roster": (fewer[0], *said[1:]),
        "own entry missing": (said[0], said[1], said[3]),
        "own entry altered": (*said[:2], change(said[2], ciphertexts=bytes(1088)), said[3]),
        "own entry of another session": (*said[:2], fewer[2], said[3]),
        "repeated": (said[0], said[1], said[1], said[2]),
        "unsorted": (said[1], said[0], said[2], said[3]),
        "stranger": (*said, change(said[3], site=4)),
        "too few": (said[0], said[2]),
        "empty": (),
    }


TABLES = tables()


@pytest.mark.parametrize("name", TABLES)
def test_a_hostile_table_is_refused(name: str) -> None:
    play, _, said = agreeing()
    assert join(play, 2, *said)

    with pytest.raises(RemoteProtocolError):
        join(play, 2, *TABLES[name])


def test_ciphertexts_of_an_older_session_of_the_same_sites_are_refused() -> None:
    """Site 1 begins anew; what site 0 sent before is signed for the roster before."""
    _, roster, said = agreeing()
    invited = Invited(job=JOB, site=1, identity=make_identities(4)[1])
    begun, (hello,) = site_step(invited, Begin(b"n" * 32))
    assert isinstance(hello, Hello)
    again = Roster((roster.hellos[0], hello, *roster.hellos[2:]))
    after, (own,) = site_step(begun, Encapsulate(again, encapsulate))
    assert isinstance(own, Ciphertexts)

    with pytest.raises(RemoteProtocolError, match="not signed by its identity for this roster"):
        site_step(after, CiphertextTable((said[0], own, *said[2:])))


def test_sites_that_are_shown_different_tables_hold_different_keys() -> None:
    play, _, said = agreeing()

    everyone = join(play, 1, *said)
    without = join(play, 1, *said[:3])

    assert all(everyone.chains[peer] != without.chains[peer] for peer in range(3))


def test_a_site_with_another_table_cannot_spoil_the_sum() -> None:
    play, _, said = agreeing()
    vectors = make_vectors(JOB)
    for one in said:
        play.tell(one)
    play.tell(CloseCiphertexts())
    play.sites = [*(join(play, site, *said) for site in range(3)), join(play, 3, *said[1:])]
    play.prepare(absent=[3])

    with pytest.raises(RemoteProtocolError) as refusal:
        play.tell(play.prekeys(3))

    assert refusal.value.sender == 3
    assert play.round(vectors).vector.tolist() == plain_sum(JOB, vectors, range(3))


def test_a_signed_but_false_ciphertext_parts_its_pair_only() -> None:
    """A site that lies to one peer gains nothing: their masks stay, as after a false vector."""
    play, _, said = agreeing(hybrid(5, 4, 1))
    state = play.sites[0]
    assert isinstance(state, Encapsulated)
    false = bytes(1088) + said[0].ciphertexts[1088:]
    said[0] = say_ciphertexts(state.roster, 0, make_identities(5)[0], false)
    play.sites[0] = replace(state, said=said[0])

    chains = [join(play, site, *said).chains for site in range(5)]

    parted = [(i, j) for i, j in combinations(range(5), 2) if chains[i][j] != chains[j][i]]
    assert parted == [(0, 1)]


def test_a_roster_without_ml_kem_keys_is_refused() -> None:
    """A coordinator cannot have the job's ML-KEM left out: the job is in every signature."""
    play = Play(JOB)
    hellos = play.introduce().hellos
    stripped = [msgspec.structs.replace(hello, key=hello.key[:32]) for hello in hellos[1:]]
    older = Play(replace(JOB, post_quantum=False)).introduce().hellos

    for roster in (Roster((hellos[0], *stripped)), Roster((hellos[0], *older[1:]))):
        with pytest.raises(RemoteProtocolError):
            site_step(play.sites[0], Encapsulate(roster, encapsulate))


def test_a_hybrid_site_does_not_join_by_a_roster_alone() -> None:
    play = Play(JOB)
    roster = play.introduce()

    with pytest.raises(OutOfTurn):
        site_step(play.sites[0], roster)


@pytest.mark.parametrize("again", ["roster", "table"])
def test_a_site_joins_once(again: str) -> None:
    play, roster, said = agreeing()
    events: dict[str, SiteEvent] = {
        "roster": Encapsulate(roster, encapsulate),
        "table": CiphertextTable(tuple(said)),
    }
    play.sites[0] = join(play, 0, *said)

    with pytest.raises(OutOfTurn):
        site_step(play.sites[0], events[again])


def test_a_site_draws_once_a_session() -> None:
    play, roster, _ = agreeing()

    with pytest.raises(OutOfTurn):
        site_step(play.sites[0], Encapsulate(roster, encapsulate))

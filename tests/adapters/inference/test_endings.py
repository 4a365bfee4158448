# SPDX-License-Identifier: Apache-2.0
"""What ends an operator ends all of it; what a crash left at one operator is put away."""

import gc
import shutil
import socket
import threading
import time
import warnings
from pathlib import Path

import pytest
from tests.adapters.inference.parties import (
    Parties,
    free_port,
    publish_small,
    some_images,
    start_operator,
    stocked,
    three_operators,
    until,
)

from consilium.adapters.inference.computing import Operator
from consilium.adapters.inference.kit import Address, Operators, make_kits
from consilium.adapters.inference.links import dial
from consilium.adapters.inference.material_store import MaterialStore
from consilium.errors import DataError

# -- Threads and sockets --------------------------------------------------------------


def test_a_closed_operator_leaves_no_thread_and_no_socket(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        with three_operators(tmp_path) as parties:
            publish_small(parties)
            (offered,) = parties.patient.models()
            parties.patient.ask(offered, some_images(1).numpy())
            threads = {one for operator in parties.operators for one in operator._threads}
            serving = {one for operator in parties.operators for one in operator._listener._taken}

            for operator in parties.operators:
                operator.close()

            assert threads
            assert serving
            assert not {one for one in threads | serving if one.is_alive()}
            assert parties.operators[0]._peer is None
        gc.collect()


def test_an_idle_operator_ends_soon_also_beside_a_silent_stranger(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    operator = lonely(tmp_path)
    stranger = socket.create_connection(("127.0.0.1", operator._addresses[0].link))
    start = time.monotonic()

    operator.close()

    stranger.close()
    assert time.monotonic() - start < 8
    assert set(threading.enumerate()) <= before


def test_a_connection_without_tls_is_dropped_and_others_are_served(tmp_path: Path) -> None:
    operator = lonely(tmp_path)
    address = operator._addresses[0]
    for said in (b"GET / HTTP/1.1\r\n\r\n", bytes(64), b"\x16\x03\x01\xff\xff"):
        with socket.create_connection((address.host, address.link)) as stranger:
            stranger.sendall(said)

    with dial(tmp_path / "kits" / "owner", address, "operator-0") as link:
        assert link.peer == "operator-0"
    operator.close()


def lonely(folder: Path) -> Operator:
    """Returns operator 0 without the others."""
    first, second = (Address("127.0.0.1", free_port(), free_port()) for _ in (0, 1))
    make_kits(folder / "kits", Operators((first, second)))
    return Operator(folder / "kits" / "operator-0", folder / "data", 0)


# -- Material at one of the two -------------------------------------------------------


def stores(parties: Parties, name: bytes) -> list[MaterialStore]:
    return [one.shelf.get(name).materials for one in parties.operators]


def pause(parties: Parties) -> None:
    """Stops the dealer after its round."""
    parties.dealing.clear()
    time.sleep(0.5)


@pytest.mark.parametrize("party", [0, 1])
def test_material_that_one_operator_used_alone_is_put_away(tmp_path: Path, party: int) -> None:
    """As a crash of the other between the two marks leaves it."""
    with three_operators(tmp_path, stock=6) as parties:
        name = publish_small(parties, stock=6)
        pause(parties)
        both = stores(parties, name)
        lost = both[party].numbers()[:2]
        both[party].mark(lost)
        (offered,) = parties.patient.models()

        parties.patient.ask(offered, some_images(2).numpy())

        assert both[0].numbers() == both[1].numbers()
        assert len(both[0].numbers()) == 2
        assert not set(lost) & set(both[0].numbers())


def test_where_nothing_is_at_both_the_patient_hears_it_and_asks_again(tmp_path: Path) -> None:
    with three_operators(tmp_path) as parties:
        name = publish_small(parties)
        pause(parties)
        both = stores(parties, name)
        both[1].mark(both[1].numbers()[:-1])
        (offered,) = parties.patient.models()
        both[0].mark(both[0].numbers()[-1:])

        with pytest.raises(DataError, match="too little material is at both"):
            parties.patient.ask(offered, some_images(1).numpy())
        parties.dealing.set()
        until(lambda: stocked(parties, name, 3))
        parties.patient.ask(offered, some_images(1).numpy())


@pytest.mark.parametrize("party", [0, 1])
def test_damaged_material_costs_one_session_at_most(tmp_path: Path, party: int) -> None:
    with three_operators(tmp_path, stock=6) as parties:
        name = publish_small(parties, stock=6)
        pause(parties)
        store = stores(parties, name)[party]
        for number in store.numbers()[:-1]:
            store._path(number).write_bytes(b"damaged")
        parties.operators[party].shelf.get(name)._ready.clear()
        (offered,) = parties.patient.models()
        until(lambda: len(store.numbers()) == 1)

        parties.patient.ask(offered, some_images(1).numpy())


@pytest.mark.parametrize("party", [0, 1])
def test_an_operator_set_back_to_an_older_disk_uses_nothing_twice(
    tmp_path: Path, party: int
) -> None:
    with three_operators(tmp_path, stock=4) as parties:
        name = publish_small(parties, stock=4)
        pause(parties)
        place, older = parties.kits / f"operator-{party}" / "data", tmp_path / "older"
        shutil.copytree(place, older)
        first = stores(parties, name)[party].numbers()[:2]
        (offered,) = parties.patient.models()
        parties.patient.ask(offered, some_images(2).numpy())
        stop(parties, party)
        shutil.rmtree(place)
        shutil.copytree(older, place)
        parties.operators[party], parties.servers[party] = start_operator(parties.kits, party)
        until(lambda: parties.operators[party].shelf.get(name).ready)
        assert set(first) <= set(stores(parties, name)[party].numbers())

        parties.patient.ask(offered, some_images(1).numpy())

        used = (place / name.hex() / "material" / "used").read_text().split()
        assert {str(number) for number in first} <= set(used)  # put away
        assert len(stores(parties, name)[1 - party].numbers()) == 1


def stop(parties: Parties, party: int) -> None:
    parties.servers[party].should_exit = True
    parties.operators[party].close()
    time.sleep(0.7)

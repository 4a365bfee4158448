# SPDX-License-Identifier: Apache-2.0
"""Three operators on this machine, a model for them, and an owner's kit."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
import uvicorn
from tests.phone import made

from consilium.adapters.finished_models import Papers
from consilium.adapters.inference.asking import Patient
from consilium.adapters.inference.computing import Operator
from consilium.adapters.inference.dealing import Dealer
from consilium.adapters.inference.kit import Address, Operators, make_kits, read_operators
from consilium.adapters.inference.public_card import Card
from consilium.adapters.inference.public_end import make_app, serve
from consilium.adapters.inference.publishing import (
    Owned,
    Trained,
    about,
    compile_owned,
    make_card,
    publish,
)
from consilium.errors import ConsiliumError
from consilium.inference.compiler import Compiled
from consilium.learning.familiarity import Kind
from consilium.learning.models.registry import build
from consilium.learning.preprocessing import Preprocessing

SHAPE = (1, 28, 28)


@final
@dataclass(slots=True)
class Parties:
    """What a test needs of them."""

    kits: Path
    operators: list[Operator]
    servers: list[uvicorn.Server]
    dealing: threading.Event
    patient: Patient


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def until(done: Callable[[], bool], seconds: float = 30.0) -> None:
    """Waits until `done`, or fails."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "not done in time"
        time.sleep(0.05)


def start_operator(kits: Path, party: int) -> tuple[Operator, uvicorn.Server]:
    kit = kits / f"operator-{party}"
    operator = Operator(kit, kit / "data", party)
    port = read_port(kits, party)
    server = serve(
        make_app(operator), port=port, certificate=kit / "certificate.pem", key=kit / "key.pem"
    )
    until(lambda: server.started)
    return operator, server


def read_port(kits: Path, party: int) -> int:
    return read_operators(kits).computing[party].port


@contextmanager
def three_operators(folder: Path, *, stock: int = 3) -> Iterator[Parties]:
    kits = folder / "kits"
    first, second = (Address("127.0.0.1", free_port(), free_port()) for _ in (0, 1))
    make_kits(kits, Operators((first, second)))
    started = [start_operator(kits, party) for party in (0, 1)]
    parties = Parties(
        kits=kits,
        operators=[one for one, _ in started],
        servers=[server for _, server in started],
        dealing=threading.Event(),
        patient=Patient(kits),
    )
    parties.dealing.set()
    ended = threading.Event()
    dealer = threading.Thread(target=_deal, args=(parties, ended, stock), daemon=True)
    dealer.start()
    try:
        yield parties
    finally:
        ended.set()
        dealer.join(timeout=10)
        parties.patient.close()
        for server in parties.servers:
            server.should_exit = True
        for operator in parties.operators:
            operator.close()
        time.sleep(0.3)


def _deal(parties: Parties, ended: threading.Event, stock: int) -> None:
    kit = parties.kits / "dealer"
    dealer = Dealer(kit, kit / "data", stock=stock)
    while not ended.is_set():
        try:
            if not (parties.dealing.is_set() and dealer.go_round()):
                time.sleep(0.1)
        except (ConsiliumError, OSError):
            dealer.close()
            time.sleep(0.2)
    dealer.close()


def owned() -> Owned:
    return Owned(
        model=build("small-cnn-relu", shape=SHAPE, classes=3, seed=0).eval(),
        name="digits",
        classes=("none", "mild", "severe"),
        shape=SHAPE,
        preprocessing=Preprocessing(),
    )


def publish_small(parties: Parties, *, stock: int = 3) -> bytes:
    """Publishes a model of random weights and waits for material."""
    model = owned()
    compiled = compile_owned(model, None)
    name = publish(parties.kits / "owner", compiled, card_of(model, compiled))
    until(lambda: stocked(parties, name, stock))
    return name


def card_of(model: Owned, compiled: Compiled, kind: Kind | None = None) -> Card:
    """Returns a public card as of a model that was trained privately, by a lone owner."""
    finished = made.finished("logistic", source="digits", shape=model.shape, classes=model.classes)
    trained = Trained(
        owned=model,
        finished=finished,
        papers=Papers(weights="0" * 64, office=None, permit=None),
    )
    release = made.released(finished, "encrypted-only")
    return make_card(model, compiled, about(trained, kind), release)


def stocked(parties: Parties, name: bytes, stock: int) -> bool:
    published = [one.shelf.get(name) for one in parties.operators]
    return all(one.ready and len(one.materials.numbers()) >= stock for one in published)


def some_images(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(count, *SHAPE, generator=generator) * 4 - 2

# SPDX-License-Identifier: Apache-2.0
"""What the commands of encrypted inference do."""

import threading
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import torch
import typer
from numpy.typing import NDArray

from consilium.adapters.inference.asking import Found, Offered, Patient, check_kind, read_pictures
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
    read_owned,
    read_trained,
    revoke,
)
from consilium.adapters.machine import use_threads
from consilium.adapters.office.moments import system_clock
from consilium.adapters.picture_kinds import kind_of
from consilium.adapters.publisher_key import signer_of
from consilium.adapters.releasing import Release, Wanted, release_of
from consilium.cli.inferring import CostRequest, InferRequest, PublishRequest
from consilium.data.image_files import FORMATS
from consilium.errors import AccessDenied, ConfigError
from consilium.governance.model_permissions import Use
from consilium.inference.compiler import Compiled
from consilium.inference.cost import LAN, WAN, cost_of
from consilium.learning.models.registry import NAMES, build
from consilium.learning.preprocessing import Preprocessing
from consilium.sdk import default_data_folder

_BATCH: Final = 16  # images a session


def run_setup(folder: Path, first: str, second: str) -> None:
    """Makes kits."""
    make_kits(folder, Operators((_address(first), _address(second))))
    typer.echo(f"{folder}: operator-0, operator-1, dealer, owner; give each its own folder alone,")
    typer.echo("and patients operators.json with authority.pem. Put authority.key away.")


def run_operator(
    party: int, kit: Path, data: Path | None, origins: tuple[str, ...], stock: int
) -> None:
    """Runs an operator until it is stopped."""
    use_threads(1)
    place = data or kit / "data"
    if party == 2:
        typer.echo("dealing", err=True)
        Dealer(kit, place, stock=stock).serve()
    running = Operator(kit, place, party)
    port = read_operators(kit).computing[party].port
    app = make_app(running, origins)
    serve(app, port=port, certificate=kit / "certificate.pem", key=kit / "key.pem")
    typer.echo(f"operator {party} listens on {port}", err=True)
    threading.Event().wait()


def run_publish(request: PublishRequest) -> None:
    """Shares a model among the operators."""
    said = request.pictures
    folder = said.data or default_data_folder()
    trained = read_trained(request.model, folder, said.frame)
    owned, release = trained.owned, _release(trained, request)
    kind = kind_of(trained.finished.project.data.source, said.kind, folder)
    compiled = compile_owned(owned, _calibration(request.calibrate, owned), request.ring)
    if not request.json:
        _show_cost(compiled)
    card = make_card(owned, compiled, about(trained, kind), release)
    name = publish(request.kit, compiled, card).hex()
    if request.json:
        typer.echo(msgspec.json.encode({"publication": name, "card": card}).decode())
        return
    typer.echo(f"published {owned.name} as {name}; the dealer prepares it when it comes by")
    typer.echo(f"signed by {card.publisher.name}: {card.publisher.words()}")


def run_revoke(publication: str, kit: Path) -> None:
    """Takes a model back."""
    try:
        name = bytes.fromhex(publication)
    except ValueError:
        raise ConfigError("a publication is 64 hexadecimal digits; see inference publish") from None
    revoke(kit, name)
    typer.echo("revoked at both operators")


def run_cost(request: CostRequest) -> None:
    """Prints what an answer costs."""
    if request.model in NAMES:
        owned = _untrained(request.model, _shape(request.shape))
        images: torch.Tensor | None = torch.randn(64, *owned.shape).clamp(-2, 2)
    else:
        owned = _read(Path(request.model), framed=request.calibrate is not None)
        images = _calibration(request.calibrate, owned)
    compiled = compile_owned(owned, images, request.ring)
    if request.json:
        typer.echo(msgspec.json.encode(cost_of(compiled.program)).decode())
        return
    _show_cost(compiled)


def run_infer(request: InferRequest) -> None:
    """Asks the operators and prints class names."""
    if request.mode != "encrypted":
        raise ConfigError(
            f"mode {request.mode!r}, expected encrypted; on the device: consilium export, and the "
            "page on the phone"
        )
    files = _files(request.images)
    patient = Patient(request.operators)
    try:
        offered = _chosen(patient.models(), request.model)
        _check_publisher(offered.card, request.publisher)
        check_kind(files, offered.card.about.input, offered.card.about.kind)
        answers = []
        for start in range(0, len(files), _BATCH):
            part = files[start : start + _BATCH]
            found = patient.ask(offered, _pictures(part, offered.card))
            answers.append(_answers(part, offered, found))
    finally:
        patient.close()
    if request.json:
        typer.echo(msgspec.json.encode({"model": offered.card.name, "batches": answers}).decode())
        return
    for batch in answers:
        for one in batch.images:
            typer.echo(f"{one.file}: {one.label}")
        typer.echo(
            f"online {batch.online_seconds:.2f} s, offline {batch.offline_seconds:.2f} s, "
            f"{batch.bytes / 1e6:.1f} MB, {batch.rounds:.0f} rounds"
        )
    typer.echo("Not a diagnosis: ask a physician.")


# -- Parts ----------------------------------------------------------------------------


class _Image(msgspec.Struct, frozen=True):
    file: str
    label: str = msgspec.field(name="class")
    logits: tuple[float, ...]


class _Batch(msgspec.Struct, frozen=True, kw_only=True):
    images: tuple[_Image, ...]
    seconds: float
    online_seconds: float
    offline_seconds: float
    bytes: float
    rounds: float
    uploaded: int


def _answers(files: list[Path], offered: Offered, found: Found) -> _Batch:
    classes = offered.card.classes
    images = tuple(
        _Image(file.name, classes[int(np.argmax(row))], tuple(float(one) for one in row))
        for file, row in zip(files, found.logits, strict=True)
    )
    first, second = found.facts
    return _Batch(
        images=images,
        seconds=found.seconds,
        online_seconds=max(first["online_seconds"], second["online_seconds"]),
        offline_seconds=max(first["offline_seconds"], second["offline_seconds"]),
        bytes=first["bytes"] + second["bytes"],
        rounds=first["rounds"],
        uploaded=found.uploaded,
    )


def _pictures(files: list[Path], card: Card) -> NDArray[np.float32]:
    rule = Preprocessing(
        mean=card.mean, std=card.std, standardise_each_image=card.standardise_each_image
    )
    return read_pictures(files, card.about.input, rule)


def _chosen(models: tuple[Offered, ...], name: str | None) -> Offered:
    fitting = [one for one in models if name in (None, one.card.name, one.publication)]
    if len(fitting) != 1:
        names = ", ".join(f"{one.card.name} ({one.publication[:12]})" for one in models)
        raise AccessDenied(
            f"{len(fitting)} models fit {name or 'no name'}; the operators offer {names or 'none'}"
            ": name one with --model"
        )
    return fitting[0]


def _files(places: tuple[Path, ...]) -> list[Path]:
    files = []
    for place in places:
        inside = sorted(place.iterdir()) if place.is_dir() else [place]
        files += [one for one in inside if not place.is_dir() or one.suffix.lower() in FORMATS]
    if not files:
        raise ConfigError("no pictures there; expected files, or folders of them")
    return files


def _calibration(folder: Path | None, owned: Owned) -> torch.Tensor | None:
    if folder is None:
        return None
    pictures = read_pictures(_files((folder,)), owned.rule, owned.preprocessing)
    return torch.from_numpy(pictures)


def _release(trained: Trained, request: PublishRequest) -> Release:
    wanted = Wanted(
        uses=(Use.ENCRYPTED_INFERENCE,),
        words=request.signing.permission,
        narrowest="encrypted-only",
    )
    signer = signer_of(request.signing.key)
    return release_of(trained.finished, trained.papers, wanted, signer, system_clock())


def _read(path: Path, *, framed: bool) -> Owned:
    return read_trained(path, default_data_folder(), None).owned if framed else read_owned(path)


def _check_publisher(card: Card, expected: str | None) -> None:
    if expected is not None and " ".join(expected.split()) != card.publisher.words():
        raise AccessDenied(
            f"model {card.name} was published by {card.publisher.name!r} "
            f"({card.publisher.words()}); expected {expected}: nothing was sent"
        )


def _untrained(name: str, shape: tuple[int, ...]) -> Owned:
    if len(shape) != 3:
        raise ConfigError("a model by name needs --shape CHANNELS,HEIGHT,WIDTH")
    return Owned(
        model=build(name, shape=shape, classes=5, seed=0).eval(),
        name=name,
        classes=tuple(str(k) for k in range(5)),
        shape=(shape[0], shape[1], shape[2]),
        preprocessing=Preprocessing(),
    )


def _show_cost(compiled: Compiled) -> None:
    cost, ranges = cost_of(compiled.program), compiled.ranges
    basis = "proved" if not ranges.images else f"calibrated on {ranges.images} images, no proof"
    typer.echo(f"ranges: {basis}; ring of {compiled.program.ring_bits} bits")
    typer.echo(
        f"comparisons {cost.comparisons:,}, products {cost.products:,}, rounds {cost.rounds}"
    )
    typer.echo(
        f"each operator sends {cost.online_bytes / 1e6:.1f} MB, the dealer "
        f"{cost.offline_bytes / 1e6:.1f} MB ahead, the patient {cost.upload_bytes / 1e6:.2f} MB "
        "to each"
    )
    for network in (LAN, WAN):
        typer.echo(
            f"{network.name}: about {cost.online_seconds(network):.1f} s online, "
            f"{cost.offline_seconds(network):.1f} s of material ahead"
        )


def _shape(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() for part in parts):
        raise ConfigError(f"shape {text!r}, expected CHANNELS,HEIGHT,WIDTH such as 3,224,224")
    return tuple(int(part) for part in parts)


def _address(text: str) -> Address:
    host, _, ports = text.partition(":")
    link, _, port = ports.partition(":")
    if not host or not link.isdecimal() or not port.isdecimal():
        raise ConfigError(f"address {text!r}, expected HOST:LINK:HTTPS such as a.org:7100:7443")
    return Address(host, int(link), int(port))

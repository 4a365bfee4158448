# SPDX-License-Identifier: Apache-2.0
"""What the commands of encrypted inference do."""

import ssl
import threading
from pathlib import Path

import msgspec
import numpy as np
import torch
import typer

from consilium.adapters.inference.asking import Found, Offered, Patient
from consilium.adapters.inference.computing import Operator
from consilium.adapters.inference.dealing import Dealer
from consilium.adapters.inference.folders import Asked, ask_all
from consilium.adapters.inference.kit import Address, Operators, make_kits, read_operators
from consilium.adapters.inference.pictures import find_pictures, read_pictures
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
from consilium.adapters.randomness import operating_system
from consilium.adapters.releasing import Release, Wanted, release_of
from consilium.cli.inferring import CostRequest, InferRequest, OperatorRequest, PublishRequest
from consilium.errors import AccessDenied, ConfigError, DataError
from consilium.governance.model_permissions import Use
from consilium.inference.compiler import DEFAULT_RING, Compiled
from consilium.inference.cost import LAN, WAN, cost_of
from consilium.inference.ring import WIDE_BITS
from consilium.inference.self_check import check_machine
from consilium.learning.models.registry import NAMES, build
from consilium.learning.preprocessing import Preprocessing
from consilium.sdk import default_data_folder


def run_setup(folder: Path, first: str, second: str) -> None:
    """Makes kits."""
    make_kits(folder, Operators((_address(first), _address(second))))
    typer.echo(f"{folder}: operator-0, operator-1, dealer, owner; give each its own folder alone,")
    typer.echo("and patients operators.json with authority.pem. Put authority.key away.")


def run_operator(request: OperatorRequest) -> None:
    """Runs an operator until it is stopped."""
    use_threads(1)
    for ring_bits in (min(WIDE_BITS), DEFAULT_RING):  # words of 32 bits, and of 64
        check_machine(ring_bits, operating_system)
    kit, place = request.kit, request.data or request.kit / "data"
    if request.party == 2:
        typer.echo("dealing", err=True)
        Dealer(kit, place, stock=request.stock).serve()
    certificate, key = public_certificate(request)
    running = Operator(kit, place, request.party)
    port = read_operators(kit).computing[request.party].port
    serve(make_app(running, request.origins), port=port, certificate=certificate, key=key)
    typer.echo(f"operator {request.party} listens on {port}", err=True)
    threading.Event().wait()


def public_certificate(request: OperatorRequest) -> tuple[Path, Path]:
    """Returns certificate and key of the HTTPS end: those that were given, else the kit's.

    Raises:
        ConfigError: One was given without the other, or they do not belong together.
    """
    if request.certificate is None and request.key is None:
        return request.kit / "certificate.pem", request.kit / "key.pem"
    if request.certificate is None or request.key is None:
        raise ConfigError("one of --certificate and --key; expected both or neither")
    try:
        ssl.create_default_context().load_cert_chain(request.certificate, request.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"certificate {request.certificate.name} cannot be used ({type(error).__name__}); "
            "expected a PEM chain and its private key: give --certificate and --key"
        ) from None
    return request.certificate, request.key


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
        name = b""
    if len(name) != 32:
        raise ConfigError("a publication is 64 hexadecimal digits; see inference publish")
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
    files = find_pictures(request.images)
    patient = Patient(request.operators)
    try:
        offered = patient.model(request.model)
        _check_publisher(offered.card, request.publisher)
        asked = ask_all(patient, offered, files)
    finally:
        patient.close()
    answers = [_answers(part, offered, found) for part, found in asked.batches]
    if request.json:
        told = {
            "model": offered.card.name,
            "batches": answers,
            "unanswered": [
                {"file": one.file.name, "reason": one.reason} for one in asked.unanswered
            ],
        }
        typer.echo(msgspec.json.encode(told).decode())
    elif answers:
        _show_answers(answers)
    _refuse_unanswered(asked)


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


def _show_answers(answers: list[_Batch]) -> None:
    for batch in answers:
        for one in batch.images:
            typer.echo(f"{one.file}: {one.label}")
        typer.echo(
            f"online {batch.online_seconds:.2f} s, offline {batch.offline_seconds:.2f} s, "
            f"{batch.bytes / 1e6:.1f} MB, {batch.rounds:.0f} rounds"
        )
    typer.echo("Not a diagnosis: ask a physician.")


def _refuse_unanswered(asked: Asked) -> None:
    """Names every file without an answer; what was answered is printed already."""
    bad = asked.unanswered
    if not bad:
        return
    if len(bad) == 1 and not asked.batches:
        raise DataError(bad[0].reason)
    for one in bad:
        typer.echo(f"{one.file.name}: no answer: {one.reason}", err=True)
    done = sum(len(part) for part, _ in asked.batches)
    raise DataError(
        f"{len(bad)} of {done + len(bad)} files have no answer; the others have: give these again"
    )


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


def _calibration(folder: Path | None, owned: Owned) -> torch.Tensor | None:
    if folder is None:
        return None
    pictures = read_pictures(find_pictures((folder,)), owned.rule, owned.preprocessing)
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

# SPDX-License-Identifier: Apache-2.0
"""`consilium demo --diagnose`: a model is trained, shared among three operators, and asked.

Everybody is played on this machine: the hospitals, the owner, the three operators (as processes of
their own, TLS between them) and the patient. What each of them sees is as it is in earnest.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from consilium.adapters.downloads import DemoSource, cache_folder, demo_source
from consilium.adapters.finished_models import load_finished
from consilium.adapters.inference.asking import Offered, Patient
from consilium.adapters.inference.kit import PARTIES, Address, Operators, make_kits
from consilium.adapters.inference.pictures import read_pictures
from consilium.adapters.machine import free_ports, keep_freed_memory
from consilium.adapters.picture_kinds import NO_KIND
from consilium.cli.demo import free_folder, make_project, read_source
from consilium.cli.display import Display, program
from consilium.cli.encrypted import run_publish
from consilium.cli.inferring import Pictures, PublishRequest
from consilium.cli.model import Signing
from consilium.data.records import Records
from consilium.errors import ConsiliumError, DataError
from consilium.inference.ranges import LEAST_IMAGES
from consilium.sdk import Options, default_data_folder, train

CHANGES: Final = {"model.name": "small-cnn-relu", "learning_rate.initial": "0.3"}
_ARM: Final = "federated-dp"
_SHOWN: Final = 8  # test pictures
_PATIENCE: Final = 120.0  # seconds for three processes and their first material
_STEP: Final = 0.2
_OPERATOR: Final = (
    sys.executable, "-c", "from consilium.cli.app import main; main()", "inference", "operator",
)  # fmt: skip


def run_diagnose(out: Path, *, offline: bool, seed: int) -> None:
    """Trains, publishes, asks, and compares with the same model in the clear.

    Raises:
        ConsiliumError: The data cannot be used, or an operator does not answer.
    """
    keep_freed_memory()
    folder = free_folder(out.with_name(f"{out.name}-diagnosis"))
    source = demo_source(default_data_folder(), cache_folder(), offline=offline)
    splits = read_source(source)
    with Display() as display:
        display.say(f"Data: {source.why}")
        display.say("Ten sites train one model, with privacy for every patient.")
        options = Options(arms=(_ARM,), seeds=(seed,), data_folder=source.folder)
        train(make_project(source, splits, CHANGES), folder / "run", options, display)
    shown = write_pictures(splits.test, folder / "pictures", _SHOWN)
    write_pictures(splits.validation, folder / "calibration", LEAST_IMAGES)
    typer.echo("Three operators start; the owner gives each a share of the weights.")
    with operators(folder / "kits"):
        run_publish(_publication(folder, source))
        diagnose(folder, shown)
    typer.echo(f"Everything is in {folder}")
    typer.echo(f"Set it up among three organisations: {program()} inference setup --help")


def _publication(folder: Path, source: DemoSource) -> PublishRequest:
    known = source.source == "cxr64"
    return PublishRequest(
        model=folder / "run",
        kit=folder / "kits" / "owner",
        calibrate=folder / "calibration",
        ring=40,
        pictures=Pictures(kind=None if known else NO_KIND, data=source.folder),
        signing=Signing(key=folder / "publisher.json"),
        json=False,
    )


# -- The parties ----------------------------------------------------------------------


@contextmanager
def operators(kits: Path) -> Iterator[None]:
    """Three processes on free ports of this machine, until the block ends."""
    ports = free_ports(4)
    first, second = (Address("127.0.0.1", *ports[2 * k : 2 * k + 2]) for k in (0, 1))
    make_kits(kits, Operators((first, second)))
    started: list[subprocess.Popen[bytes]] = []
    try:
        for party, role in enumerate(PARTIES):
            words = [*_OPERATOR, "--party", str(party), "--kit", str(kits / role)]
            with (kits / role / "log.txt").open("wb") as log:
                made = subprocess.Popen(words, stdout=log, stderr=log)  # noqa: S603 - our own
            started.append(made)
        _await(kits, started)
        yield
    finally:
        for one in started:
            one.terminate()
        for one in started:
            one.wait(timeout=10)


def _await(kits: Path, started: list[subprocess.Popen[bytes]]) -> None:
    """Waits until both operators answer."""
    end = time.monotonic() + _PATIENCE
    while True:
        patient = Patient(kits)
        try:
            patient.models()
        except ConsiliumError:
            ended = [role for role, one in zip(PARTIES, started, strict=False) if one.poll()]
            if ended or time.monotonic() > end:
                raise DataError(
                    f"{' and '.join(ended) or 'an operator'} did not start; see log.txt in its kit"
                ) from None
            time.sleep(_STEP)
        else:
            return
        finally:
            patient.close()


# -- The patient ----------------------------------------------------------------------


def write_pictures(records: Records, folder: Path, most: int) -> tuple[str, ...]:
    """Writes pictures from all over the records as files, and returns their names."""
    folder.mkdir(parents=True)
    count = len(records.inputs)
    rows = range(0, count, max(1, count // most))[:most]
    names = tuple(f"{k + 1:02}.png" for k in range(len(rows)))
    for row, name in zip(rows, names, strict=True):
        levels = np.asarray(records.inputs[row], np.uint8)
        Image.fromarray(levels[0] if len(levels) == 1 else levels.transpose(1, 2, 0)).save(
            folder / name
        )
    return names


def diagnose(folder: Path, names: tuple[str, ...]) -> None:
    """Asks the operators, and prints the answers beside those of the whole model."""
    files = [folder / "pictures" / name for name in names]
    patient = Patient(folder / "kits")
    try:
        offered = _offered(patient, len(files))
        finished = load_finished(folder / "run", arm=_ARM)
        rule = offered.card.about.input
        images = read_pictures(files, rule, finished.preprocessing)
        found = patient.ask(offered, images)
    finally:
        patient.close()
    with torch.inference_mode():
        plain = finished.model(torch.from_numpy(images)).numpy()
    _show(names, offered.card.classes, found.logits, plain)
    first, second = found.facts
    typer.echo(
        f"{found.seconds:.2f} s for {len(names)} pictures, of which "
        f"{max(first['online_seconds'], second['online_seconds']):.2f} s between the operators; "
        f"{(first['bytes'] + second['bytes']) / 1e6:.1f} MB, {first['rounds']:.0f} rounds; "
        f"the patient sent {found.uploaded / 1e6:.2f} MB"
    )
    typer.echo("No operator saw a picture, a weight or an answer. Not a diagnosis.")


def _offered(patient: Patient, images: int) -> Offered:
    """Waits for the dealer."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        for one in patient.models():
            if one.ready and one.images >= images:
                return one
        time.sleep(_STEP)
    raise DataError("the dealer brought no material; see log.txt in kits/dealer")


def _show(
    names: tuple[str, ...],
    classes: tuple[str, ...],
    opened: NDArray[np.float64],
    plain: NDArray[np.float32],
) -> None:
    table = Table(box=None, header_style="bold")
    for heading in ("picture", "encrypted answer", "the same model in the clear", "largest error"):
        table.add_column(heading)
    for name, own, other in zip(names, opened, plain, strict=True):
        error = float(np.abs(own - other).max())
        labels = (classes[int(one.argmax())] for one in (own, other))
        table.add_row(name, *labels, f"{error:.5f} of {np.abs(other).max():.1f}")
    Console().print(table)

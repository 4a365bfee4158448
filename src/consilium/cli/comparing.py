# SPDX-License-Identifier: Apache-2.0
"""What `consilium inference compare` does: the same pictures at several runtimes, as a table."""

from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import torch
import typer
from numpy.typing import NDArray

from consilium.adapters.inference.asking import Patient
from consilium.adapters.inference.comparing import Row, compare
from consilium.adapters.inference.pictures import read_pictures
from consilium.adapters.inference.publishing import Owned, compile_owned, read_owned
from consilium.adapters.inference.runtimes import AskedOperators, InProcess, InTheClear
from consilium.adapters.inference.spu import SpuProtocol, SpuRuntime
from consilium.adapters.machine import use_threads
from consilium.cli.inferring import CompareRequest
from consilium.data.image_files import FORMATS
from consilium.errors import AccessDenied, ConfigError
from consilium.inference.network import read_network
from consilium.inference.runtime import Runtime

_PROTOCOLS: Final[dict[str, SpuProtocol]] = {"aby3": "ABY3", "cheetah": "CHEETAH"}


class _Report(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    classes: tuple[str, ...]
    files: tuple[str, ...]
    runtimes: tuple[Row, ...]
    left_out: dict[str, str]


def run_compare(request: CompareRequest) -> None:
    """Asks every runtime that can be asked, and says which were left out.

    Raises:
        ConfigError: An option that cannot be used as it is.
        DataError: A picture or a model that cannot be used.
        RoundAborted: A party of a runtime stopped.
    """
    if request.spu_protocol not in _PROTOCOLS:
        raise ConfigError(f"spu protocol {request.spu_protocol!r}, expected aby3 or cheetah")
    use_threads(1)
    owned = read_owned(request.model)
    files, pictures = _pictures(request.images, owned)
    calibration = None if request.calibrate is None else _pictures(request.calibrate, owned)[1]
    images = None if calibration is None else torch.from_numpy(calibration)
    compiled = compile_owned(owned, images, request.ring)
    with torch.no_grad():
        logits = owned.model(torch.from_numpy(pictures)).double().numpy()
    with ExitStack() as opened:
        others, left_out = _others(request, owned, opened)
        runtimes = (InProcess(compiled), *others)
        rows = compare(InTheClear(compiled), runtimes, pictures, logits)
    report = _Report(
        model=owned.name,
        classes=owned.classes,
        files=tuple(file.name for file in files),
        runtimes=rows,
        left_out=left_out,
    )
    if request.json:
        typer.echo(msgspec.json.encode(report).decode())
        return
    _show(report)


def _others(
    request: CompareRequest, owned: Owned, opened: ExitStack
) -> tuple[list[Runtime], dict[str, str]]:
    """Returns the runtimes beside ours, and why some are left out."""
    found: list[Runtime] = []
    left_out = {}
    if request.operators is None:
        left_out["operators"] = "none were named (--operators DIR)"
    else:
        found.append(_operators(request.operators, owned.name, opened))
    if request.spu_python is None:
        left_out["SPU"] = "no interpreter that has it was named (--spu-python PYTHON)"
    else:
        network = read_network(owned.model, owned.shape)
        protocol = _PROTOCOLS[request.spu_protocol]
        found.append(opened.enter_context(SpuRuntime(request.spu_python, network, protocol)))
    return found, left_out


def _operators(public: Path, name: str, opened: ExitStack) -> AskedOperators:
    patient = Patient(public)
    opened.callback(patient.close)
    fitting = [one for one in patient.models() if one.card.name == name]
    if len(fitting) != 1:
        raise AccessDenied(
            f"the operators offer {len(fitting)} models named {name}; expected one: publish it, or "
            "revoke the others"
        )
    return AskedOperators(patient, fitting[0])


def _pictures(folder: Path, owned: Owned) -> tuple[list[Path], NDArray[np.float32]]:
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    files = [one for one in inside if one.suffix.lower() in FORMATS]
    if not files:
        raise ConfigError(f"{folder} has no pictures; expected a folder of them")
    return files, read_pictures(files, owned.rule, owned.preprocessing)


def _show(report: _Report) -> None:
    oracle = report.runtimes[0]
    for number, file in enumerate(report.files):
        others = [
            f"{row.runtime}: {report.classes[row.labels[number]]}"
            for row in report.runtimes
            if row.labels[number] != oracle.labels[number]
        ]
        doubt = f" ({', '.join(others)})" if others else ""
        typer.echo(f"{file}: {report.classes[oracle.labels[number]]}{doubt}")
    heads = ("labels", "from oracle", "from model", "CPU s", "MB sent", "s")
    typer.echo(f"{'runtime':<18}" + "".join(f"{head:>12}" for head in heads))
    for row in report.runtimes:
        sent = None if row.sent_bytes is None else row.sent_bytes / 1e6
        cells = (
            f"{row.labels_agree}/{len(report.files)}",
            f"{row.from_oracle:.5f}",
            f"{row.from_model:.5f}",
            _cell(row.cpu_seconds),
            _cell(sent),
            _cell(row.seconds),
        )
        typer.echo(f"{row.runtime:<18}" + "".join(f"{cell:>12}" for cell in cells))
    for row in report.runtimes:
        typer.echo(f"{row.runtime}: {row.trust}")
    for name, reason in report.left_out.items():
        typer.echo(f"{name}: left out, {reason}")


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"

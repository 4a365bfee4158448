# SPDX-License-Identifier: Apache-2.0
"""Models that nobody trained, made-up pictures of a kind, and a page on this machine."""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tests.web.conftest import result

from consilium.adapters.finished_models import FinishedModel
from consilium.adapters.onnx_export import Wishes, export_model
from consilium.federation.project import parse_project
from consilium.learning.calibration import Bin
from consilium.learning.familiarity import load_kind
from consilium.learning.models.registry import build
from consilium.learning.preprocessing import Preprocessing
from consilium.web.phone.serving import make_server
from consilium.web.phone.site import make_site

PROJECT = """
name = "made-up"
[data]
source = "cxr64"
[sites]
count = 3
[model]
name = "small-cnn"
[training]
rounds = 2
[dp]
target_epsilon = 3.0
delta = 1e-4
expected_batch = 10
"""
BINS = (
    Bin(low=0.4, high=0.6, records=40, confidence=0.5, accuracy=0.55),
    Bin(low=0.6, high=1.0, records=60, confidence=0.8, accuracy=0.92),
)


def finished(
    network: str = "small-cnn",
    *,
    shape: tuple[int, ...] = (1, 64, 64),
    source: str = "cxr64",
    classes: tuple[str, ...] = ("normal", "pneumonia"),
    arm: str = "federated-dp",
    own_moments: bool = False,
) -> FinishedModel:
    made = result(arm, classes=classes)
    return FinishedModel(
        model=build(network, shape=shape, classes=len(classes), seed=0).eval(),
        project=parse_project(PROJECT, {"data.source": source}),
        result=msgspec.structs.replace(made, test=replace(made.test, calibration=BINS)),
        shape=shape,
        preprocessing=Preprocessing(standardise_each_image=own_moments),
    )


def exported(folder: Path, made: FinishedModel | None = None) -> Path:
    """Writes a model and its card, and returns where."""
    out = folder / "model.onnx"
    export_model(made or finished(), out, Wishes())
    return out


def chest(*, side: int = 240, height: int | None = None, seed: int = 0) -> NDArray[np.uint8]:
    """Returns what the kind calls a chest X-ray, with a little noise: its centre, enlarged."""
    grid = load_kind("chest-x-ray").centre.reshape(12, 12)
    levels = 120 + 45 * grid
    rows, columns = np.arange(height or side) * 12 // (height or side), np.arange(side) * 12 // side
    noise = np.random.default_rng(seed).normal(0, 6, (height or side, side))
    return np.clip(levels[np.ix_(rows, columns)] + noise, 0, 255).astype(np.uint8)


def fundus(*, side: int = 200) -> NDArray[np.uint8]:
    """Returns what the kind calls a picture of the back of the eye, (side, side, 3)."""
    grid = load_kind("fundus").centre.reshape(3, 8, 8)
    at = np.arange(side) * 8 // side
    levels = np.clip(90 + 50 * grid[:, at][:, :, at], 0, 255)
    return levels.transpose(1, 2, 0).astype(np.uint8)


def photograph(*, side: int = 240) -> NDArray[np.uint8]:
    """Returns stripes in colour, which no kind knows."""
    ramp = np.linspace(0, 255, side).astype(np.uint8)
    red, green = np.meshgrid(ramp, ramp)
    return np.stack([red, green, 255 - red], axis=2)


def encoded(levels: NDArray[np.generic], form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(levels).save(out, form, **options)
    return out.getvalue()


@contextmanager
def served(model: Path, asked: list[str] | None = None) -> Iterator[tuple[str, Callable[[], None]]]:
    """Offers the page of a model on this machine; yields where, and how to end it.

    Args:
        model: With its card.
        asked: Gets a line for each request.
    """
    with make_server(make_site(model), ("127.0.0.1", 0)) as server:
        if asked is not None:
            server.RequestHandlerClass = _noting(server.RequestHandlerClass, asked)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()

        def end() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        yield f"http://127.0.0.1:{server.server_address[1]}/", end
        if thread.is_alive():
            end()


def _noting(handler: Any, asked: list[str]) -> Any:  # noqa: ANN401 - a class made at run time
    class Noting(handler):  # type: ignore[misc]  # likewise
        def parse_request(self) -> bool:
            asked.append(self.raw_requestline.decode().strip())
            return bool(super().parse_request())

    return Noting

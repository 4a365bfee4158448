# SPDX-License-Identifier: Apache-2.0
"""Models that nobody trained, made-up pictures of a kind, and a page on this machine."""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tests.web.conftest import result

from consilium.adapters.finished_models import FinishedModel, Papers
from consilium.adapters.onnx_export import Wishes, export_model
from consilium.adapters.releasing import Release, Wanted, release_of
from consilium.federation.project import parse_project
from consilium.governance.model_permissions import Use
from consilium.governance.model_permits import Signer
from consilium.learning.calibration import Bin
from consilium.learning.familiarity import Kind, learn_kind, unlearnt
from consilium.learning.models.registry import build
from consilium.learning.preprocessing import Preprocessing
from consilium.web.phone.serving import make_server
from consilium.web.phone.site import make_site

NOW: Final = datetime(2026, 11, 22, tzinfo=UTC)
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


def exported(folder: Path, made: FinishedModel | None = None, kind: Kind | None = None) -> Path:
    """Writes a model and its card, and returns where."""
    out = folder / "model.onnx"
    model = made or finished()
    export_model(model, out, Wishes(kind=kind or CHEST, release=released(model)))
    return out


def released(made: FinishedModel, *words: str) -> Release:
    """Returns the release of a lone owner who allows `words`, or a phone page."""
    papers = Papers(weights="0" * 64, office=None, permit=None)
    wanted = Wanted(uses=tuple(Use), words=words, narrowest="device")
    return release_of(made, papers, wanted, Signer("Dr Weber", bytes(32)), NOW)


# -- Kinds of picture that nobody took ------------------------------------------------


def _two_lungs() -> NDArray[np.float64]:
    """Returns dark lungs beside a bright spine, above a bright belly; (1, 12, 12), about 0."""
    grid = np.full((12, 12), 0.2)
    grid[:, 5:7] = 1.2
    grid[2:9, 1:5] = grid[2:9, 7:11] = -1.4
    grid[9:] = 0.9
    return grid[None]


def _bright_disc() -> NDArray[np.float64]:
    """Returns a red disc on black with a bright spot, (3, 8, 8), about 0."""
    rows, columns = np.mgrid[:8, :8] - 3.5
    inside = rows**2 + columns**2 < 14
    grid = np.stack([np.where(inside, level, -0.9) for level in (1.9, 0.6, -0.2)])
    grid[:, 3:5, 5:6] += 0.8
    return grid


def _learnt(kind: Kind, mean: NDArray[np.float64], spread: float) -> Kind:
    random = np.random.default_rng(0)
    examples = 110 + 45 * (mean + random.normal(0, spread, (60, *mean.shape)))
    return learn_kind(kind, np.clip(examples, 0, 255).astype(np.uint8), directions=4, passing=1.0)


_CHEST: Final = _two_lungs()
_FUNDUS: Final = _bright_disc()
CHEST: Final = _learnt(
    unlearnt("chest-x-ray", frame="squash", grid=12, channels=1, most_colour=32.0), _CHEST, 0.3
)
FUNDUS: Final = _learnt(unlearnt("fundus", frame="crop", grid=8, channels=3), _FUNDUS, 0.3)


def chest(*, side: int = 240, height: int | None = None, seed: int = 0) -> NDArray[np.uint8]:
    """Returns two lungs, (height or side, side), with a little noise."""
    levels: NDArray[np.float64] = 110 + 45 * _CHEST[0]
    rows, columns = np.arange(height or side) * 12 // (height or side), np.arange(side) * 12 // side
    noise = np.random.default_rng(seed).normal(0, 6, (height or side, side))
    return np.clip(levels[np.ix_(rows, columns)] + noise, 0, 255).astype(np.uint8)


def fundus(*, side: int = 200) -> NDArray[np.uint8]:
    """Returns a red disc with a bright spot, (side, side, 3)."""
    at = np.arange(side) * 8 // side
    levels = np.clip(110 + 45 * _FUNDUS[:, at][:, :, at], 0, 255)
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

# SPDX-License-Identifier: Apache-2.0
"""A trained model as a run left it on disk: weights, project, results; ready to be used.

Not here: training, and models of other tools. Guarantees: weights are read as tensors, never as a
pickle, and belong to the project beside them (the terms in their header).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

import msgspec
from safetensors import SafetensorError, safe_open
from torch import nn

from consilium.adapters.stage import MODEL, RESULT
from consilium.data.dataset_folder import is_dataset, read_description
from consilium.data.framing import Frame
from consilium.data.sources import SOURCES
from consilium.errors import AccessDenied, ConfigError, DataError
from consilium.federation.arms import MAIN_ARM
from consilium.federation.project import Project, parse_project
from consilium.federation.results import RunResult
from consilium.governance.model_permits import PERMIT, Permit, Publisher, read_permit
from consilium.learning.models.registry import build
from consilium.learning.preprocessing import Preprocessing

PROJECT: Final = "project.toml"
_RUNS: Final = "runs"
_FRAMES: Final[Mapping[str, Frame]] = {
    "cxr64": "squash",
    "pneumoniamnist": "crop",
    "retinamnist": "crop",
    "mnist": "pad",
    "digits": "pad",
    "hippocampus": "pad",
}
_OWN_WINDOW: Final = "the file's own"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedModel:
    """One arm's model and what is known of it.

    Attributes:
        model: With trained weights, in evaluation mode.
        project: As the arm saw it.
        result: Of the run.
        shape: Of one record.
        preprocessing: Public and fixed.
    """

    model: nn.Module = field(repr=False)
    project: Project
    result: RunResult = field(repr=False)
    shape: tuple[int, ...]
    preprocessing: Preprocessing


def load_finished(path: Path, *, arm: str = MAIN_ARM) -> FinishedModel:
    """Returns the model in a folder that `consilium train` left, or in a file of it.

    Args:
        path: The folder of `--out`, or the model.safetensors in it or in one of its runs.
        arm: Which, where the folder holds several; its first seed is taken.

    Raises:
        ConfigError: There is no finished run, or not of this arm.
        DataError: A file is damaged, or belongs to another project.
    """
    run, folder = _places(path, arm)
    project = parse_project(_text(folder / PROJECT))
    result = _result(run / RESULT)
    own = project.for_arm(result.arm)
    header = _header(run / MODEL)
    if header.terms != project.terms(result.arm).hex() or header.terms != result.terms:
        raise DataError(
            f"{MODEL} was trained under terms {header.terms[:12]}; {PROJECT} beside it says "
            f"{project.terms(result.arm).hex()[:12]}: copy the whole folder of the run again"
        )
    model = build(
        own.model.name,
        shape=header.shape,
        classes=len(result.classes),
        seed=0,
        label_maps=own.data.task == "segmentation",
    )
    _load_weights(model, run / MODEL)
    return FinishedModel(
        model=model.eval(),
        project=own,
        result=result,
        shape=header.shape,
        preprocessing=Preprocessing(
            mean=own.data.mean,
            std=own.data.std,
            standardise_each_image=own.data.standardise_each_image,
        ),
    )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Papers:
    """Whose a trained model is, and what they allow.

    Attributes:
        weights: SHA-256 of its file, hexadecimal.
        office: That trained it, as the file itself says; None: whoever has it.
        permit: That lies beside it, its signature checked.
    """

    weights: str
    office: Publisher | None
    permit: Permit | None


def read_papers(path: Path, *, arm: str = MAIN_ARM) -> Papers:
    """Returns the papers of the model that `load_finished` returns.

    Raises:
        ConfigError: There is no finished run.
        DataError: A file cannot be read.
        AccessDenied: The permit was changed, is of other weights, or not the office's.
    """
    run, _ = _places(path, arm)
    office = _header(run / MODEL).office
    weights = hashlib.sha256((run / MODEL).read_bytes()).hexdigest()
    if not (run / PERMIT).is_file():
        return Papers(weights=weights, office=office, permit=None)
    permit = read_permit((run / PERMIT).read_bytes())
    if permit.weights != weights:
        raise AccessDenied(
            f"{PERMIT} is for weights {permit.weights[:16]}..., and {MODEL} has "
            f"{weights[:16]}...: expected those that belong together; release the model again"
        )
    if office not in (None, permit.publisher):
        raise AccessDenied(
            f"{PERMIT} is signed by {permit.publisher.name!r} ({permit.publisher.words()}), and "
            f"the model is of office {office.name!r} ({office.words()}): expected that office's own"
        )
    return Papers(weights=weights, office=office, permit=permit)


def picture_rule(
    finished: FinishedModel, data: Path | None, frame: Frame | None
) -> tuple[Frame, tuple[float, float] | None]:
    """Returns how a new picture becomes a record, and its window: as the training set's did.

    Args:
        finished: The model.
        data: Folder of datasets, where the project's source is an imported one.
        frame: For sources that do not say it.

    Raises:
        ConfigError: It is not known, and nobody said it.
    """
    source = finished.project.data.source
    if source in SOURCES:
        return frame or _FRAMES.get(source, "pad"), None
    places = [Path(source)] if data is None else [data / source, Path(source)]
    imported = next((place for place in places if is_dataset(place)), None)
    if imported is not None:
        return "pad", _window(read_description(imported).preprocessing)
    if frame is None:
        raise ConfigError(
            f"source {source} is not here to say how its pictures were made; expected the dataset "
            "(--data FOLDER), or --frame pad, squash or crop if you know"
        )
    return frame, None


def _window(words: Mapping[str, str]) -> tuple[float, float] | None:
    said = words.get("window", "").removeprefix("black to white: ").partition(";")[0]
    if said in ("", _OWN_WINDOW):
        return None
    low, _, high = said.strip("()").partition(",")
    return float(low), float(high)


# -- Files ----------------------------------------------------------------------------


class _Header(msgspec.Struct, frozen=True, kw_only=True):
    terms: str
    model: str
    classes: tuple[str, ...]
    shape: tuple[int, ...] = ()
    office: Publisher | None = None


def _places(path: Path, arm: str) -> tuple[Path, Path]:
    """Returns the folder of the run and that of the project."""
    start = path.parent if path.is_file() else path
    if (start / RESULT).is_file():
        return start, start.parent.parent
    runs = sorted((start / _RUNS).glob(f"{arm}-seed*/{RESULT}"))
    if not runs:
        present = sorted(one.parent.name for one in (start / _RUNS).glob(f"*/{RESULT}"))
        raise ConfigError(
            f"{path} holds no finished run of arm {arm!r}; found {', '.join(present) or 'none'}: "
            "name a folder that `consilium train --out` left, and --arm"
        )
    return runs[0].parent, start


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path.name} cannot be read ({type(error).__name__}); expected the folder that "
            "`consilium train --out` left, whole"
        ) from None


def _result(path: Path) -> RunResult:
    try:
        return msgspec.json.decode(path.read_bytes(), type=RunResult)
    except (OSError, msgspec.MsgspecError) as error:
        raise DataError(
            f"{path.name} cannot be read ({type(error).__name__}); expected a result that "
            "consilium wrote: restore a copy, or train again"
        ) from None


def _header(path: Path) -> _Header:
    try:
        with safe_open(path, framework="pt") as opened:
            said = opened.metadata() or {}
        header = msgspec.json.decode(said.get("consilium", "{}"), type=_Header)
    except (OSError, SafetensorError, msgspec.MsgspecError) as error:
        raise DataError(
            f"{path.name} cannot be read ({type(error).__name__}); expected a model that "
            "consilium wrote: restore a copy, or train again"
        ) from None
    if not header.shape:
        raise DataError(
            f"{path.name} does not say the shape of its records; expected a model of this "
            "release: train again"
        )
    return header


def _load_weights(model: nn.Module, path: Path) -> None:
    with safe_open(path, framework="pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    try:
        model.load_state_dict(tensors)
    except RuntimeError:
        raise DataError(
            f"{path.name} holds other tensors than the network of its project; expected a model "
            "of this release: train again"
        ) from None

# SPDX-License-Identifier: Apache-2.0
"""A trained model as one ONNX file with its card, checked against PyTorch before it is written.

The graph takes one picture of grey levels (uint8) and gives logits and probabilities; public
preprocessing, temperature and folded weights are inside (`learning.deployed`). Guarantees: on
`PICTURES` made-up pictures onnxruntime's outputs are within `TOLERANCE` of PyTorch's, or nothing is
written. Made-up ones, because a comparison on patients' pictures would be a release.
"""

import hashlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final, final

import msgspec
import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from consilium.adapters.finished_models import FinishedModel, picture_rule
from consilium.adapters.model_card import (
    INPUT,
    OUTPUTS,
    Checked,
    Input,
    ModelCard,
    card_path,
    encode_card,
)
from consilium.adapters.picture_input import kind_numbers
from consilium.adapters.releasing import Release
from consilium.adapters.whole_files import write_whole
from consilium.data.framing import Frame
from consilium.errors import ConfigError, DataError
from consilium.governance.model_permissions import HOLDING
from consilium.governance.model_permits import require
from consilium.learning.certainty import certainties
from consilium.learning.deployed import Deployed
from consilium.learning.familiarity import Kind

OPSET: Final = 20  # within what onnxruntime and onnxruntime-web 1.2x run
PICTURES: Final = 100
TOLERANCE: Final = 1e-4
_PACKAGES: Final = ("consilium", "torch", "onnx", "onnxruntime")

Levels = NDArray[np.uint8]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the exporter says beyond the run.

    Attributes:
        kind: Of picture that the model knows; None: nobody can tell.
        frame: How pictures become squares, for sources that do not say it.
        data: Folder of datasets, for imported sources.
        release: Under which permit, and who signs the card.
    """

    release: Release
    kind: Kind | None = None
    frame: Frame | None = None
    data: Path | None = None


def export_model(finished: FinishedModel, out: Path, wishes: Wishes) -> ModelCard:
    """Writes OUT.onnx and its card; returns the card.

    Raises:
        ConfigError: The model takes no pictures, or what it needs to know is not known.
        AccessDenied: The permit allows neither a download nor a device.
        DataError: onnxruntime computes something else than PyTorch; nothing is written.
    """
    require(wishes.release.permit, *HOLDING)
    _check_takes_pictures(finished, out)
    frame, window = picture_rule(finished, wishes.data, wishes.frame)
    deployed = Deployed(finished.model, finished.preprocessing).eval()
    graph = to_onnx(deployed, finished.shape)
    compare(deployed, graph.SerializeToString(), made_up_pictures(finished.shape, PICTURES))
    card = ModelCard(
        name=finished.project.name,
        arm=finished.result.arm,
        sentence=finished.result.sentence,
        network=finished.result.model,
        task=finished.project.data.task,
        classes=finished.result.classes,
        sites=len(finished.result.sites),
        terms=finished.result.terms,
        input=Input(
            channels=3 if finished.shape[0] == 3 else 1,
            size=finished.shape[1],
            frame=frame,
            window=window,
        ),
        preprocessing=asdict(finished.preprocessing),
        temperature=deployed.temperature,
        certainties=certainties(finished.result.test.calibration),
        kind=None if wishes.kind is None else kind_numbers(wishes.kind),
        privacy=finished.result.statement,
        sha256="",
        size=0,
        opset=OPSET,
        checked=Checked(
            pictures=PICTURES,
            tolerance=TOLERANCE,
            versions={name: version(name) for name in _PACKAGES},
        ),
        permit=wishes.release.permit,
        publisher=wishes.release.signer.publisher,
        signature="",
    )
    _describe(graph, card)
    data = graph.SerializeToString(deterministic=True)
    card = msgspec.structs.replace(card, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    card = msgspec.structs.replace(card, signature=wishes.release.signer.sign(card))
    write_whole(out, data)
    write_whole(card_path(out), encode_card(card))
    return card


def to_onnx(deployed: Deployed, shape: tuple[int, ...]) -> onnx.ModelProto:
    """Returns the graph for one picture of `shape`, checked to be well formed.

    Raises:
        DataError: PyTorch wrote another opset than was asked for.
    """
    example = torch.zeros(1, *shape, dtype=torch.uint8)
    with _quiet():
        program = torch.onnx.export(
            deployed,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            opset_version=OPSET,
            external_data=False,
        )
    assert program is not None  # noqa: S101 - the exporter's own promise with dynamo
    graph = onnx.load_model_from_string(_bytes(program.model_proto))
    opsets = {one.domain: one.version for one in graph.opset_import}
    if opsets.get("") != OPSET or set(opsets) != {""}:
        raise DataError(
            f"the exporter wrote operators {opsets}; expected ONNX opset {OPSET} alone: use the "
            "versions of torch and onnxscript in constraints.txt"
        )
    onnx.checker.check_model(graph, full_check=True)
    return graph


def _bytes(graph: onnx.ModelProto) -> bytes:
    out = io.BytesIO()
    onnx.save_model(graph, out)
    return out.getvalue()


def compare(deployed: Deployed, model: bytes, pictures: Levels) -> float:
    """Returns the largest difference of any output between PyTorch and onnxruntime.

    Args:
        deployed: The oracle.
        model: ONNX.
        pictures: Shape (n, channels, size, size).

    Raises:
        DataError: It is above `TOLERANCE`, or not a number.
    """
    session = session_of(model)
    largest = 0.0
    for picture in pictures:
        with torch.inference_mode():
            expected: tuple[Tensor, Tensor] = deployed(torch.from_numpy(picture[None]))
        found = session.run(list(OUTPUTS), {INPUT: picture[None]})
        for one, other in zip(expected, found, strict=True):
            gap = np.abs(one.numpy() - other).max()
            largest = float(np.maximum(largest, gap))  # which keeps what is not a number
    if not largest <= TOLERANCE:
        raise DataError(
            f"onnxruntime differs from PyTorch by {largest:.2g}; expected at most {TOLERANCE:g}: "
            "nothing was written; the model's weights may not be finite"
        )
    return largest


def session_of(model: bytes) -> onnxruntime.InferenceSession:
    """Returns `model` ready to run, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def made_up_pictures(shape: tuple[int, ...], count: int) -> Levels:
    """Returns smooth and rough pictures, black and white ones first, shape (count, *shape)."""
    random = np.random.default_rng(20_26)
    rough = random.integers(0, 256, (count, *shape), dtype=np.uint8)
    ramp = np.linspace(0, 255, shape[-1])[None, :] * random.uniform(0, 1, (count, *shape[:-1], 1))
    smooth = np.asarray(ramp, np.uint8)
    made = np.where(np.arange(count).reshape(-1, 1, 1, 1) % 2 == 0, rough, smooth)
    made[:2] = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)
    return np.asarray(made, np.uint8)


# -- What is said of it ---------------------------------------------------------------


def _check_takes_pictures(finished: FinishedModel, out: Path) -> None:
    shape = finished.shape
    if len(shape) != 3 or shape[0] not in (1, 3) or shape[1] != shape[2]:
        raise ConfigError(
            f"the model takes records of shape {shape}; expected square pictures, grey or colour: "
            "tables and volumes are not exported"
        )
    if out.suffix != ".onnx":
        raise ConfigError(f"--onnx {out.name}; expected a file name that ends in .onnx")
    if not out.parent.is_dir():
        raise ConfigError(f"--onnx {out}; expected a folder that is there: make {out.parent}")


def _describe(graph: onnx.ModelProto, card: ModelCard) -> None:
    """Writes the card's essentials into the file itself, and nothing of the machine."""
    for node in graph.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    graph.producer_name, graph.doc_string = "consilium", card.sentence
    facts: Mapping[str, object] = {
        "format": card.format,
        "classes": card.classes,
        "input": card.input,
        "preprocessing": card.preprocessing,
        "privacy": card.privacy,
        "terms": card.terms,
        "permit": card.permit,
    }
    for name, fact in facts.items():
        entry = graph.metadata_props.add()
        entry.key, entry.value = f"consilium.{name}", msgspec.json.encode(fact).decode()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's remarks about itself from users."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)

# SPDX-License-Identifier: Apache-2.0
"""The owner's end: a trained model becomes shares, one for each operator, and is taken back.

Guarantees: each operator gets one share, uniform on its own, over a link that it proved its name
on; the whole weights stay here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import final

import msgspec
from torch import Tensor, nn

from consilium.adapters.finished_models import (
    FinishedModel,
    Papers,
    load_finished,
    picture_rule,
    read_papers,
)
from consilium.adapters.inference.kit import read_operators
from consilium.adapters.inference.links import dial
from consilium.adapters.inference.pictures import square
from consilium.adapters.inference.public_card import About, Card
from consilium.adapters.inference.talk import REPLY, PutModel, Refused, Revoke
from consilium.adapters.model_card import Input
from consilium.adapters.picture_input import kind_numbers
from consilium.adapters.randomness import operating_system
from consilium.adapters.releasing import Release
from consilium.data.framing import Frame
from consilium.errors import ConfigError, DataError
from consilium.governance.model_permissions import Use
from consilium.governance.model_permits import require
from consilium.inference.compiler import DEFAULT_RING, Compiled, compile_network
from consilium.inference.messages import ModelShare
from consilium.inference.network import read_network
from consilium.inference.ranges import calibrate_ranges, prove_ranges
from consilium.inference.weights import pack_weights, split, split_size
from consilium.learning.certainty import certainties
from consilium.learning.deployed import Deployed
from consilium.learning.familiarity import Kind
from consilium.learning.preprocessing import WHITE, Preprocessing
from consilium.wire import Message


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """A model to be shared, and how a picture becomes what it sees."""

    model: nn.Module = field(repr=False)
    name: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    preprocessing: Preprocessing
    frame: Frame = "pad"
    window: tuple[float, float] | None = None

    @property
    def rule(self) -> Input:
        """From a picture to grey levels.

        Raises:
            DataError: The model takes pictures that are not square.
        """
        return square(self.shape, self.frame, self.window)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A model of a finished run, with its papers."""

    owned: Owned
    finished: FinishedModel
    papers: Papers


def read_trained(path: Path, data: Path | None, frame: Frame | None) -> Trained:
    """Returns the model of a finished run: its folder, or its model.safetensors.

    Args:
        path: The folder, or the model.
        data: Folder of datasets, where the project's source is an imported one.
        frame: For sources that do not say how their pictures became squares.

    Raises:
        ConfigError: There is no finished run, its records are no images, or how pictures become
            squares is not known.
        DataError: A file is damaged, or belongs to another project.
        AccessDenied: The permit beside it is not right.
    """
    finished = load_finished(path)
    frame, window = picture_rule(finished, data, frame)
    return Trained(
        owned=replace(_owned(finished, path), frame=frame, window=window),
        finished=finished,
        papers=read_papers(path),
    )


def read_owned(path: Path) -> Owned:
    """Returns the model of a finished run without how its pictures were framed.

    Raises:
        ConfigError: There is no finished run, or its records are no images.
        DataError: A file is damaged, or belongs to another project.
    """
    return _owned(load_finished(path), path)


def _owned(finished: FinishedModel, path: Path) -> Owned:
    if len(finished.shape) != 3:
        raise ConfigError(
            f"{path.name} learnt records of shape {finished.shape}; expected images (channels, "
            "height, width)"
        )
    return Owned(
        model=finished.model,
        name=finished.project.name,
        classes=finished.result.classes,
        shape=finished.shape,
        preprocessing=finished.preprocessing,
    )


def compile_owned(owned: Owned, images: Tensor | None, ring_bits: int = DEFAULT_RING) -> Compiled:
    """Returns the program and weights of a model, by proved ranges where these fit.

    Args:
        owned: The model.
        images: Preprocessed images to calibrate on, (n, channels, h, w); None only proves.
        ring_bits: Of the wide ring.

    Raises:
        ConfigError: What the model does is not computed on shares, or its ranges do not fit.
    """
    network = read_network(owned.model, owned.shape)
    try:
        return compile_network(network, prove_ranges(network, *_pixels(owned)), ring_bits)
    except ConfigError:
        if images is None:
            raise
    return compile_network(network, calibrate_ranges(network, images), ring_bits)


def publish(kit: Path, compiled: Compiled, card: Card) -> bytes:
    """Returns the name of the publication, once both operators hold their shares on disk.

    Raises:
        LinkBroken: An operator does not answer.
        DataError: It refused.
    """
    name, program = operating_system(), compiled.program
    size = split_size(program)
    drawn = b"".join(operating_system() for _ in range(-(-size // 32)))[:size]
    written = msgspec.json.encode(card)
    puts = [
        PutModel(ModelShare(name, program, pack_weights(program, part)), written)
        for part in split(program, compiled.weights, drawn)
    ]
    _tell(kit, puts)
    return name


def revoke(kit: Path, publication: bytes) -> None:
    """Takes a publication back at both operators.

    Raises:
        LinkBroken: An operator does not answer.
        DataError: It holds no such publication.
    """
    _tell(kit, [Revoke(publication)] * 2)


def about(trained: Trained, kind: Kind | None) -> About:
    """Returns what is told of a trained model that knows pictures of `kind`."""
    finished, result = trained.finished, trained.finished.result
    return About(
        arm=result.arm,
        sentence=result.sentence,
        network=result.model,
        task=finished.project.data.task,
        sites=len(result.sites),
        terms=result.terms,
        input=trained.owned.rule,
        temperature=Deployed(finished.model, finished.preprocessing).temperature,
        certainties=certainties(result.test.calibration),
        kind=None if kind is None else kind_numbers(kind),
        privacy=result.statement,
    )


def make_card(owned: Owned, compiled: Compiled, told: About, release: Release) -> Card:
    """Returns what of a model becomes public, signed.

    Raises:
        AccessDenied: The permit does not allow encrypted inference.
    """
    require(release.permit, Use.ENCRYPTED_INFERENCE)
    card = Card(
        name=owned.name,
        classes=owned.classes,
        shape=owned.shape,
        mean=owned.preprocessing.mean,
        std=owned.preprocessing.std,
        standardise_each_image=owned.preprocessing.standardise_each_image,
        ranges=compiled.ranges.basis,
        calibrated_on=compiled.ranges.images,
        about=told,
        permit=release.permit,
        publisher=release.signer.publisher,
        signature="",
    )
    return msgspec.structs.replace(card, signature=release.signer.sign(card))


def _tell(kit: Path, messages: Sequence[Message]) -> None:
    for k, (address, message) in enumerate(
        zip(read_operators(kit).computing, messages, strict=True)
    ):
        with dial(kit, address, f"operator-{k}") as link:
            link.say(message)
            reply = link.hear(REPLY)
        if isinstance(reply, Refused):
            raise DataError(f"operator {k}: {reply.reason}")


def _pixels(owned: Owned) -> tuple[float, float]:
    """Returns the least and the largest value that a pixel can have for the model."""
    rule = owned.preprocessing
    if rule.standardise_each_image:
        return -WHITE, WHITE
    return -rule.mean / rule.std, (1 - rule.mean) / rule.std

# SPDX-License-Identifier: Apache-2.0
"""The patient's end from Python: shares images, sends a share to each operator, opens the answer.

Guarantees: the whole image stays here; each share goes to its operator alone, over TLS that
proves the operator's name; each answer is fetched with a token that only its operator was told.
Nothing is uploaded another way if this fails. Time limits everywhere.
"""

import secrets
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

import httpx
import msgspec
import numpy as np
from numpy.typing import NDArray

from consilium.adapters.inference.kit import read_operators
from consilium.adapters.inference.talk import Card
from consilium.data.image_files import FORMATS, read_image, suffix_of
from consilium.data.rendering import Rendering
from consilium.data.samples import MAX_FILE_BYTES
from consilium.errors import AccessDenied, ConsiliumError, DataError, RoundAborted
from consilium.inference.messages import AnswerShare, InputShare
from consilium.inference.patient import Answer, Asking, Opened, PatientState, Share, patient_step
from consilium.inference.program import Program
from consilium.inference.sharing import random_size
from consilium.learning.preprocessing import Preprocessing

_PATIENCE: Final = 60.0  # seconds for an answer
_CONNECT: Final = 5.0
_READ: Final = 30.0


class Offered(msgspec.Struct, frozen=True):
    """A model, as an operator describes it."""

    publication: str
    card: Card
    ready: bool
    images: int
    program: Program


class _List(msgspec.Struct, frozen=True):
    operator: int
    models: tuple[Offered, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Logits (n, classes), and what they cost.

    Attributes:
        logits: Of the images in order.
        facts: What each operator measured: seconds, bytes sent, rounds.
        seconds: From the first byte sent to the answer opened.
        uploaded: Bytes of both shares.
    """

    logits: NDArray[np.float64] = field(repr=False)
    facts: tuple[dict[str, float], dict[str, float]]
    seconds: float
    uploaded: int


@final
class Patient:
    """Talks to the two operators of the folder `public` (operators.json and authority.pem)."""

    def __init__(self, public: Path) -> None:
        context = ssl.create_default_context(cafile=str(public / "authority.pem"))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        limits = httpx.Timeout(_READ, connect=_CONNECT)
        self._clients = [
            httpx.Client(
                base_url=f"https://{one.host}:{one.port}",
                verify=context,
                timeout=limits,
                trust_env=False,
            )
            for one in read_operators(public).computing
        ]

    def close(self) -> None:
        """Ends the connections."""
        for client in self._clients:
            client.close()

    def models(self) -> tuple[Offered, ...]:
        """Returns what both operators offer alike.

        Raises:
            RoundAborted: An operator does not answer.
            DataError: They describe a model differently.
        """
        lists = [
            msgspec.json.decode(self._get(k, "/v1/models").content, type=_List) for k in (0, 1)
        ]
        other = {one.publication: one for one in lists[1].models}
        found = []
        for one in lists[0].models:
            twin = other.get(one.publication)
            if twin is None:
                continue
            if (twin.card, twin.program) != (one.card, one.program):
                raise DataError("the operators describe a model differently; ask neither of them")
            found.append(one)
        return tuple(found)

    def model(self, name: str | None) -> Offered:
        """Returns the one model that is offered under `name` or publication; None if there is one.

        Raises:
            AccessDenied: None fits, or several.
            RoundAborted: An operator does not answer.
            DataError: They describe a model differently.
        """
        models = self.models()
        fitting = [one for one in models if name in (None, one.card.name, one.publication)]
        if len(fitting) != 1:
            names = ", ".join(f"{one.card.name} ({one.publication[:12]})" for one in models)
            raise AccessDenied(
                f"{len(fitting)} models fit {name or 'no name'}; the operators offer "
                f"{names or 'none'}: name one with --model"
            )
        return fitting[0]

    def ask(self, offered: Offered, images: NDArray[np.float32]) -> Found:
        """Returns the answer for preprocessed images (n, channels, height, width).

        Raises:
            RoundAborted: An operator does not answer, or stopped: nothing was opened.
            DataError: An operator refused.
        """
        asking = Asking(publication=bytes.fromhex(offered.publication), program=offered.program)
        maps = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        drawn = secrets.token_bytes(random_size(maps.size, offered.program.ring_bits))
        event = Share(images=maps, session=secrets.token_bytes(16), randomness=drawn)
        state: PatientState
        state, shares = patient_step(asking, event)
        tokens = [secrets.token_bytes(32) for _ in shares]
        start = time.perf_counter()
        for k, share in enumerate(shares):
            self._upload(k, share, tokens[k])
        facts = []
        for k, share in enumerate(shares):
            words, fact = self._answer(k, share.session, tokens[k])
            state, _ = patient_step(state, Answer(k, AnswerShare(share.session, words)))
            facts.append(fact)
        if not isinstance(state, Opened):
            raise TypeError(type(state).__name__)
        return Found(
            logits=state.logits,
            facts=(facts[0], facts[1]),
            seconds=time.perf_counter() - start,
            uploaded=sum(len(share.words) for share in shares),
        )

    def _upload(self, operator: int, share: InputShare, token: bytes) -> None:
        query = {"model": share.publication.hex(), "count": str(share.count)}
        self._said(
            operator,
            lambda client: client.post(
                f"/v1/sessions/{share.session.hex()}",
                params=query,
                content=share.words,
                headers={"Authorization": f"Bearer {token.hex()}"},
            ),
        )

    def _answer(
        self, operator: int, session: bytes, token: bytes
    ) -> tuple[bytes, dict[str, float]]:
        end = time.monotonic() + _PATIENCE
        headers = {"Authorization": f"Bearer {token.hex()}"}
        path = f"/v1/sessions/{session.hex()}/answer"
        while time.monotonic() < end:
            said = self._said(operator, lambda client: client.get(path, headers=headers))
            if said.status_code == 200:
                told = said.headers.get("X-Consilium-Facts", "{}")
                return said.content, msgspec.json.decode(told, type=dict[str, float])
        raise RoundAborted(f"operator {operator} has no answer after {_PATIENCE:.0f} s; ask again")

    def _get(self, operator: int, path: str) -> httpx.Response:
        return self._said(operator, lambda client: client.get(path))

    def _said(self, operator: int, ask: Callable[[httpx.Client], httpx.Response]) -> httpx.Response:
        try:
            said = ask(self._clients[operator])
        except httpx.HTTPError as error:
            raise RoundAborted(
                f"operator {operator} does not answer ({type(error).__name__}); nothing was "
                "opened and nothing else was sent: try again later"
            ) from None
        if said.status_code in (200, 202):
            return said
        raise DataError(f"operator {operator}: {_reason(said)}")


def _reason(said: httpx.Response) -> str:
    try:
        words = msgspec.json.decode(said.content, type=dict[str, str])
    except msgspec.MsgspecError:
        words = {}
    return words.get("error", f"status {said.status_code}")


# -- Images ---------------------------------------------------------------------------


def read_pictures(
    files: Sequence[Path], shape: tuple[int, ...], preprocessing: Preprocessing
) -> NDArray[np.float32]:
    """Returns pictures as the model sees them, (n, channels, height, width).

    Raises:
        DataError: A file that is no picture, or too large, by name.
    """
    channels, height, width = shape
    if height != width:
        raise DataError(f"the model takes {height}x{width}; pictures are made square only")
    rule = Rendering(size=height, channels=1 if channels == 1 else 3)
    stored = np.concatenate([_rendered(file, rule) for file in files])
    images: NDArray[np.float32] = preprocessing.inputs(stored).numpy()
    return images


def _rendered(file: Path, rule: Rendering) -> NDArray[np.uint8]:
    if suffix_of(file.name) not in FORMATS:
        raise DataError(f"{file.name} is no picture; expected one of {', '.join(FORMATS)}")
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise DataError(f"{file.name} is over {MAX_FILE_BYTES} bytes; give a smaller one")
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file.name} cannot be read ({error.strerror}); check its path") from None
    try:
        picture, _ = next(iter(rule.records(read_image(data, file.name))))
    except ConsiliumError as error:
        raise DataError(f"{file.name}: {error}; give a whole picture") from None
    except Exception as error:  # noqa: BLE001 - whatever Pillow raises on damage
        kind = type(error).__name__
        raise DataError(f"{file.name} is damaged ({kind}); give a whole one") from None
    return picture[None]

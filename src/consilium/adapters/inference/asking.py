# SPDX-License-Identifier: Apache-2.0
"""The patient's end from Python: shares images, sends a share to each operator, opens the answer.

Guarantees: the whole image stays here; each share goes to its operator alone, over TLS that
proves the operator's name; each answer is fetched with a token that only its operator was told.
Nothing is uploaded another way if this fails. Time limits everywhere.
"""

import secrets
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

import httpx
import msgspec
import numpy as np
from numpy.typing import NDArray

from consilium.adapters.inference.kit import read_operators
from consilium.adapters.inference.public_card import Card, check_card
from consilium.errors import AccessDenied, ConfigError, DataError, RoundAborted
from consilium.inference.messages import AnswerShare, InputShare
from consilium.inference.patient import Answer, Asking, Opened, PatientState, Share, patient_step
from consilium.inference.program import Program
from consilium.inference.sharing import random_size

_PATIENCE: Final = 60.0  # seconds for an answer
_FACTS: Final = ("online_seconds", "offline_seconds", "bytes", "rounds")
_CONNECT: Final = 5.0
_READ: Final = 30.0
_KEPT: Final = 2.0  # seconds that an unused connection is kept: fewer than the operators' own 5


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
        computing, authority = read_operators(public).computing, public / "authority.pem"
        try:
            context = ssl.create_default_context(cafile=str(authority))
        except OSError as error:
            raise ConfigError(
                f"{authority} cannot be read ({type(error).__name__}); expected the certificate "
                "that `consilium inference setup` wrote beside operators.json"
            ) from None
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        patience = httpx.Timeout(_READ, connect=_CONNECT)
        self._clients = [
            httpx.Client(
                base_url=f"https://{one.host}:{one.port}",
                verify=context,
                timeout=patience,
                limits=httpx.Limits(keepalive_expiry=_KEPT),
                trust_env=False,
            )
            for one in computing
        ]

    def close(self) -> None:
        """Ends the connections."""
        for client in self._clients:
            client.close()

    def models(self) -> tuple[Offered, ...]:
        """Returns what both operators offer alike.

        Raises:
            RoundAborted: An operator does not answer.
            DataError: They describe a model differently, or not as this release does.
            AccessDenied: A card is not as its publisher signed it.
        """
        lists = [self._listed(k) for k in (0, 1)]
        other = {one.publication: one for one in lists[1].models}
        found = []
        for one in lists[0].models:
            twin = other.get(one.publication)
            if twin is None:
                continue
            if (twin.card, twin.program) != (one.card, one.program):
                raise DataError("the operators describe a model differently; ask neither of them")
            check_card(one.card)
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

    def images_left(self, publication: str) -> int:
        """Returns for how many images both operators have material; 0 where one is not ready.

        Raises:
            AccessDenied: They offer it no more.
        """
        found = [
            one.images if one.ready else 0
            for k in (0, 1)
            for one in self._listed(k).models
            if one.publication == publication
        ]
        if len(found) != 2:
            raise AccessDenied("the model is offered no more; its owner took it back")
        return min(found)

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
                return said.content, _facts(said.headers.get("X-Consilium-Facts", "{}"))
        raise RoundAborted(f"operator {operator} has no answer after {_PATIENCE:.0f} s; ask again")

    def _listed(self, operator: int) -> _List:
        try:
            return msgspec.json.decode(self._get(operator, "/v1/models").content, type=_List)
        except msgspec.MsgspecError:
            raise DataError(
                f"operator {operator} answers with what is no list of models; expected one of this "
                "version of consilium: ask who runs it"
            ) from None

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


def _facts(told: str) -> dict[str, float]:
    """Returns what an operator measured; what it does not say is 0, and costs no answer."""
    try:
        said = msgspec.json.decode(told, type=dict[str, float])
    except msgspec.MsgspecError:
        said = {}
    return {**dict.fromkeys(_FACTS, 0.0), **said}


def _reason(said: httpx.Response) -> str:
    try:
        words = msgspec.json.decode(said.content, type=dict[str, str])
    except msgspec.MsgspecError:
        words = {}
    return words.get("error", f"status {said.status_code}")

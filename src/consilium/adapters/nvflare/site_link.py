# SPDX-License-Identifier: Apache-2.0
"""A site's end of NVFlare: an executor without tasks that answers the coordinator's requests.

It lives as long as the job. Everything it does is the `SiteSession`'s; a refusal goes back in
words, any other error is logged here and goes back as one line without its values. A request
is acknowledged at once and its answer sent when it is there, each again until it has arrived
(NVFlare's reliable messages), so neither a long computation nor a bad network loses one.
"""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, final

from nvflare.apis.client import Client
from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.apis.utils.reliable_message import ReliableMessage
from nvflare.fuel.f3.cellnet.fqcn import FQCN
from nvflare.private.fed.client.client_engine_executor_spec import ClientEngineExecutorSpec

from consilium.adapters.logs import note_where
from consilium.adapters.machine import keep_freed_memory, use_threads
from consilium.adapters.nvflare.envelope import BODY, ENROL, JOIN, MESSAGE, Reply, seal
from consilium.adapters.nvflare.kits import federation_of
from consilium.adapters.site_session import SiteSession, make_call
from consilium.errors import ConsiliumError, NotJoined

logger: Final = logging.getLogger("consilium.adapters.nvflare")


@final
class SiteLink(Executor):
    """Plays one site in one run; its arguments are the whole job."""

    def __init__(self, project: str, arm: str, seed: int, run: str) -> None:
        super().__init__()
        self._asked = (project, arm, seed, run)
        self._session: SiteSession | None = None

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Starts to listen when the job starts, and closes the ledger when it ends."""
        if event_type == EventType.START_RUN:
            use_threads(1)
            keep_freed_memory()
            engine = fl_ctx.get_engine()
            kit = Path(engine.get_workspace().get_root_dir())
            note_the_coordinator(engine, federation_of(kit).name)
            for topic, answer in (
                (ENROL, lambda _data: self._open(kit).enrol()),
                (JOIN, lambda data: self._open(kit).join(data)),
                (MESSAGE, lambda data: self._open(kit).handle(data)),
            ):
                handler = partial(_answer, answer, self._failed)
                ReliableMessage.register_request_handler(topic, handler, fl_ctx)
        elif event_type == EventType.END_RUN and self._session is not None:
            self._session.close()

    def execute(
        self,
        task_name: str,  # noqa: ARG002 - NVFlare's names
        shareable: Shareable,  # noqa: ARG002
        fl_ctx: FLContext,  # noqa: ARG002
        abort_signal: Signal,  # noqa: ARG002
    ) -> Shareable:
        """Refuses: there are no tasks."""
        return make_reply(ReturnCode.TASK_UNKNOWN)

    def _failed(self, error: Exception) -> None:
        if self._session is not None:
            self._session.health.failed(error)

    def _open(self, kit: Path) -> SiteSession:
        if self._session is None:
            call = make_call(*self._asked)
            note_where(run=call.run)
            self._session = SiteSession(kit, call)
        return self._session


def note_the_coordinator(engine: ClientEngineExecutorSpec, name: str) -> None:
    """Writes the coordinator into the site's address book, by the name it gives itself.

    NVFlare 2.9 sends the answer to a reliable message there, and knows it as "server" only.
    """
    coordinator = Client(name, "")
    coordinator.set_fqcn(FQCN.ROOT_SERVER)
    engine.name_to_clients[name] = coordinator


def _answer(
    answer: Callable[[bytes], list[bytes]],
    failed: Callable[[Exception], None],
    topic: str,  # noqa: ARG001 - NVFlare calls by these names
    request: Shareable,
    fl_ctx: FLContext,  # noqa: ARG001
) -> Shareable:
    reply = make_reply(ReturnCode.OK)
    reply[BODY] = seal(_guarded(answer, failed, request.get(BODY)))
    return reply


def _guarded(
    answer: Callable[[bytes], list[bytes]], failed: Callable[[Exception], None], data: object
) -> Reply:
    try:
        return Reply(tuple(answer(data if isinstance(data, bytes) else b"")))
    except NotJoined as error:
        return Reply(refusal=str(error), new=True)
    except ConsiliumError as error:
        logger.warning("refused: %s", error)
        failed(error)
        return Reply(refusal=str(error))
    except Exception as error:
        logger.exception("failed")
        failed(error)
        return Reply(refusal=f"{type(error).__name__}; see this site's log")

# SPDX-License-Identifier: Apache-2.0
"""The two ends of the echo that `engine.py` measures: our path over NVFlare, with nothing to do."""

import json
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import final

from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.apis.utils.reliable_message import ReliableMessage

from consilium.adapters.nvflare.coordinator_link import NvflareLine
from consilium.adapters.nvflare.envelope import BODY, ENROL, MESSAGE, Reply, seal
from consilium.adapters.nvflare.kits import CoordinatorSettings, federation_of
from consilium.adapters.nvflare.site_link import note_the_coordinator


@final
class EchoSite(Executor):
    """Says back what it is told."""

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Starts to listen."""
        if event_type == EventType.START_RUN:
            engine = fl_ctx.get_engine()
            kit = Path(engine.get_workspace().get_root_dir())
            note_the_coordinator(engine, federation_of(kit).name)
            for topic in (ENROL, MESSAGE):
                ReliableMessage.register_request_handler(topic, _echo, fl_ctx)

    def execute(
        self,
        task_name: str,  # noqa: ARG002
        shareable: Shareable,  # noqa: ARG002
        fl_ctx: FLContext,  # noqa: ARG002
        abort_signal: Signal,  # noqa: ARG002
    ) -> Shareable:
        """Refuses: there are no tasks."""
        return make_reply(ReturnCode.TASK_UNKNOWN)


def _echo(topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:  # noqa: ARG001
    reply = make_reply(ReturnCode.OK)
    reply[BODY] = seal(Reply((request[BODY],)))
    return reply


@final
class EchoCoordinator(Controller):
    """Measures legs: to every site and back, side by side."""

    def __init__(self, sizes: list[int], repeats: int) -> None:
        super().__init__()
        self._sizes, self._repeats = sizes, repeats

    def start_controller(self, fl_ctx: FLContext) -> None:
        """Does nothing."""

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """Does nothing."""

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """Writes seconds a leg, by size, where they can be downloaded."""
        engine = fl_ctx.get_engine()
        names, settings = [client.name for client in engine.get_clients()], CoordinatorSettings()
        lines = [NvflareLine(name, engine, settings, abort_signal) for name in names]
        with ThreadPoolExecutor(len(lines)) as pool:
            list(pool.map(lambda line: line.enrol(), lines))
            seconds = {size: self._measure(size, lines, pool) for size in self._sizes}
        results = Path(engine.get_workspace().get_run_dir(fl_ctx.get_job_id()))
        (results / "echo.json").write_text(json.dumps(seconds))

    def _measure(self, size: int, lines: list[NvflareLine], pool: ThreadPoolExecutor) -> float:
        data, taken = os.urandom(size), []
        for _ in range(self._repeats + 1):
            began = time.perf_counter()
            said = list(pool.map(lambda line: line.handle(data), lines))
            taken.append(time.perf_counter() - began)
            assert all(one == [data] for one in said)
        return statistics.median(taken[1:])

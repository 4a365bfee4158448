# SPDX-License-Identifier: Apache-2.0
"""The coordinator's end of NVFlare: a controller without tasks that conducts one run.

A run's folder is `consilium/runs/RUN` in the coordinator's kit and outlives the job; model and
result, or the reason why there is none, are copied to where NVFlare lets the researcher
download them. Requests have time-outs of their own; a site's process may start later than
this one, or again after a crash, so an answer is asked for until it is there.
"""

import logging
import shutil
import time
from pathlib import Path
from typing import Final, final

from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.server_engine_spec import ServerEngineSpec
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.apis.utils.reliable_message import ReliableMessage

from consilium.adapters.coordinator_runner import RoundReport
from consilium.adapters.federated import Conditions, conduct
from consilium.adapters.health import FILE, HealthFile, WatchedRun
from consilium.adapters.logs import note_where
from consilium.adapters.machine import keep_freed_memory, use_threads
from consilium.adapters.nvflare.envelope import BODY, ENROL, JOIN, MESSAGE, PROGRESS, unseal
from consilium.adapters.nvflare.kits import CoordinatorSettings, coordinator_settings
from consilium.adapters.site_session import make_call
from consilium.adapters.stage import MODEL, RESULT, Run, epsilon_after
from consilium.errors import ConsiliumError, RemoteProtocolError
from consilium.federation.progress import Progress
from consilium.federation.results import RunResult
from consilium.federation.setup import Setup

REFUSAL: Final = "refusal.txt"
_PAUSE: Final = 0.2  # seconds between two requests to a process that does not listen yet
_TRAVEL: Final = 10.0  # seconds for a message of no length
_SLOWEST: Final = 125_000  # bytes a second: 1 Mbit/s
_LAST_WORD: Final = 5.0  # seconds to say at the end what was paid; a site that is away cannot
logger: Final = logging.getLogger("consilium.adapters.nvflare")


@final
class CoordinatorLink(Controller):
    """Conducts one run; its arguments are the whole job."""

    def __init__(self, project: str, arm: str, seed: int, run: str) -> None:
        super().__init__()
        self._asked = (project, arm, seed, run)
        self._watch = _Watch()

    def start_controller(self, fl_ctx: FLContext) -> None:
        """Lets the researcher ask how far the run is."""
        fl_ctx.get_engine().register_app_command(PROGRESS, lambda *_: dict(self._watch.seen))

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """Does nothing."""

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """Conducts the run to its end."""
        use_threads(1)
        keep_freed_memory()
        engine = fl_ctx.get_engine()
        workspace, over = engine.get_workspace(), Signal(abort_signal)
        results = Path(workspace.get_run_dir(fl_ctx.get_job_id()))
        kit = Path(workspace.get_root_dir())
        health = HealthFile(kit / "consilium" / FILE)
        try:
            run = self._conduct(kit, engine, over, health)
            for name in (MODEL, RESULT):
                shutil.copyfile(run.folder / name, results / name)
        except ConsiliumError as error:
            logger.warning("run refused: %s", error)
            health.failed(error)
            health.ends("refused")
            (results / REFUSAL).write_text(str(error), encoding="utf-8")
        finally:
            over.trigger(value=True)  # requests that nobody answers keep a process alive

    def _conduct(
        self, kit: Path, engine: ServerEngineSpec, over: Signal, health: HealthFile
    ) -> Run:
        call, settings = make_call(*self._asked), coordinator_settings(kit)
        note_where(run=call.run)
        run = Run(
            project=call.project,
            arm=call.arm,
            seed=call.seed,
            folder=kit / "consilium" / "runs" / call.run,
            data_folder=None if settings.data_folder is None else Path(settings.data_folder),
        )
        names = [client.name for client in engine.get_clients()]
        lines = [NvflareLine(name, engine, settings, over) for name in names]
        conditions = Conditions(
            quorum_seconds=settings.quorum_seconds,
            stopped=lambda: bool(over.triggered),
            observer=WatchedRun(self._watch, health),
            meter=health,
        )
        conduct(call, run, lines, conditions)
        return run


@final
class NvflareLine:
    """The way to one site, until the run is `over`: its answers are pushed when they are there."""

    def __init__(
        self, name: str, engine: ServerEngineSpec, settings: CoordinatorSettings, over: Signal
    ) -> None:
        self.name = name
        self._engine, self._settings, self._over = engine, settings, over

    def enrol(self) -> list[bytes]:
        """Returns the site's enrolment and standing, once its process listens.

        Raises:
            RemoteProtocolError: It refuses, or does not listen in time.
        """
        return self._ask(ENROL, b"", self._settings.join_seconds)

    def standing(self) -> list[bytes]:
        """Returns the site's standing, if it answers at all."""
        return unseal(self.name, self._sent(ENROL, b"", _LAST_WORD))[1:]

    def join(self, roll: bytes) -> list[bytes]:
        """Returns the site's first messages of a new session."""
        return self._ask(JOIN, roll, self._settings.lost_seconds)

    def handle(self, data: bytes) -> list[bytes]:
        """Returns the site's answers to one message."""
        return self._ask(MESSAGE, data, self._settings.lost_seconds)

    def _ask(self, topic: str, data: bytes, seconds: float) -> list[bytes]:
        """Asks until there is an answer; a process that died and came back is asked anew."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return unseal(self.name, self._sent(topic, data, deadline - time.monotonic()))
            except _Unanswered:
                if time.monotonic() + _PAUSE > deadline or self._over.triggered:
                    raise
                time.sleep(_PAUSE)

    def _sent(self, topic: str, data: bytes, seconds: float) -> object:
        request = Shareable()
        request[BODY] = data
        with self._engine.new_context() as context:
            reply = ReliableMessage.send_request(
                self.name,
                topic,
                request,
                per_msg_timeout=min(_on_its_way(data), seconds / 2),
                tx_timeout=seconds,
                abort_signal=self._over,
                fl_ctx=context,
            )
        if reply.get_return_code() != ReturnCode.OK:
            raise _Unanswered(f"site {self.name} does not answer ({reply.get_return_code()})")
        return reply.get(BODY)


def _on_its_way(data: bytes) -> float:
    """Returns for how many seconds a message may travel before it is sent again."""
    return _TRAVEL + len(data) / _SLOWEST


@final
class _Unanswered(RemoteProtocolError):
    """Nobody listened at the other end, or not in time."""


@final
class _Watch:
    """Notes where a run stands, as the researcher may see it."""

    def __init__(self) -> None:
        self.seen: dict[str, int | float | str | None] = {"phase": "waiting for sites"}
        self._setup: Setup | None = None

    def begins(self, setup: Setup, seed: int, progress: Progress) -> None:  # noqa: ARG002
        """Notes the plan."""
        self._setup = setup
        self.seen = {"phase": "training", "rounds": setup.agenda.rounds, "round": progress.round}

    def round_done(self, report: RoundReport) -> None:
        """Notes the round, and the last look."""
        progress, setup = report.progress, self._setup
        seen = {**self.seen, "round": progress.round, "seconds": report.seconds}
        if setup is not None and progress.history and progress.history[-1].round == progress.round:
            last = progress.history[-1]
            seen |= {
                "look": last.round,
                "auc": last.auc,
                "accuracy": last.accuracy,
                "loss": last.loss,
            }
            seen["epsilon"] = epsilon_after(setup, progress.attempts)
        self.seen = seen

    def ends(self, result: RunResult) -> None:
        """Notes the end."""
        self.seen = {**self.seen, "phase": "done", "reason": result.reason}


def read_refusal(folder: Path) -> str | None:
    """Returns why the run in a downloaded folder was refused, or None."""
    path = folder / REFUSAL
    return path.read_text(encoding="utf-8") if path.exists() else None

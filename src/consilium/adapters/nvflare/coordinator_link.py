# SPDX-License-Identifier: Apache-2.0
"""The coordinator's end of NVFlare: a controller without tasks that conducts one run.

A run's folder is `consilium/runs/RUN` in the coordinator's kit and outlives the job; model and
result, or the reason why there is none, are copied to where NVFlare lets the researcher
download them. Requests have time-outs of their own; a site's process may start later than
this one, so its first answer is waited for.
"""

import logging
import shutil
import time
from pathlib import Path
from typing import Final, final

from nvflare.apis.fl_constant import ReservedKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.server_engine_spec import ServerEngineSpec
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from consilium.adapters.coordinator_runner import RoundReport
from consilium.adapters.federated import Conditions, conduct
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
        try:
            kit = Path(workspace.get_root_dir())
            run = self._conduct(kit, engine, over)
            for name in (MODEL, RESULT):
                shutil.copyfile(run.folder / name, results / name)
        except ConsiliumError as error:
            logger.warning("run refused: %s", error)
            (results / REFUSAL).write_text(str(error), encoding="utf-8")
        finally:
            over.trigger(value=True)  # requests that nobody answers keep a process alive

    def _conduct(self, kit: Path, engine: ServerEngineSpec, over: Signal) -> Run:
        call, settings = make_call(*self._asked), coordinator_settings(kit)
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
            observer=self._watch,
        )
        conduct(call, run, lines, conditions)
        return run


@final
class NvflareLine:
    """The way to one site: requests over NVFlare's aux path, until the run is `over`."""

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
        deadline = time.monotonic() + self._settings.join_seconds
        while True:
            try:
                return self._ask(ENROL, b"", self._settings.join_seconds)
            except _Unanswered:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)

    def standing(self) -> list[bytes]:
        """Returns the site's standing, if it answers at all."""
        return self._ask(ENROL, b"", self._settings.quorum_seconds)[1:]

    def join(self, roll: bytes) -> list[bytes]:
        """Returns the site's first messages."""
        return self._ask(JOIN, roll, self._settings.lost_seconds)

    def handle(self, data: bytes) -> list[bytes]:
        """Returns the site's answers to one message."""
        return self._ask(MESSAGE, data, self._settings.lost_seconds)

    def _ask(self, topic: str, data: bytes, seconds: float) -> list[bytes]:
        request = Shareable()
        request[BODY] = data
        with self._engine.new_context() as context:
            context.set_prop(ReservedKey.RUN_ABORT_SIGNAL, self._over, private=True, sticky=False)
            replies = self._engine.send_aux_request(
                [self.name], topic, request, seconds, context, optional=True
            )
        reply = (replies or {}).get(self.name)
        if reply is None or reply.get_return_code() != ReturnCode.OK:
            code = "no reply" if reply is None else reply.get_return_code()
            raise _Unanswered(f"site {self.name} does not answer ({code})")
        return unseal(self.name, reply.get(BODY))


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

# SPDX-License-Identifier: Apache-2.0
"""Starts a site's job process as NVFlare does, and again if it or the whole site crashed.

NVFlare 2.9 fails a whole job when one site's process dies with an error. Which losses a run can
bear is our coordinator's rule (the threshold), so a death is reported as an end without a code.
A process that a signal killed is started again, a few times; a site that was restarted as a
whole starts the job that it was in. Both come back without keys and are given a new session;
the ledger refuses every round that was answered. If the job has ended meanwhile, NVFlare
aborts it.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, final

import msgspec
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey, JobConstants
from nvflare.apis.fl_context import FLContext
from nvflare.apis.job_launcher_spec import JobHandleSpec, JobReturnCode
from nvflare.app_common.job_launcher.client_process_launcher import ClientProcessJobLauncher
from nvflare.app_common.job_launcher.process_launcher import ProcessHandle

from consilium.adapters.whole_files import write_whole

_NOTE: Final = "running.json"
_MOST_STARTS: Final = 5  # of one job's process; one that always dies is left alone
_PAUSE: Final = 2.0  # seconds before a process that died is started again
logger: Final = logging.getLogger("consilium.adapters.nvflare")


@final
class SiteLauncher(ClientProcessJobLauncher):
    """NVFlare's launcher of processes, with our handle on each and a note of what runs."""

    def launch_job(self, job_meta: dict[str, object], fl_ctx: FLContext) -> JobHandleSpec:
        """Returns a handle on the started process."""
        write_whole(_note(fl_ctx), msgspec.json.encode(job_meta, enc_hook=str))
        return _Handle(lambda: super(SiteLauncher, self).launch_job(job_meta, fl_ctx))

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Goes on with the job of before, when the site starts; forgets it when it has ended."""
        super().handle_event(event_type, fl_ctx)
        if event_type == EventType.SYSTEM_START:
            _go_on(fl_ctx)
        elif event_type == EventType.JOB_COMPLETED:
            _note(fl_ctx).unlink(missing_ok=True)


def _note(fl_ctx: FLContext) -> Path:
    workspace = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT)
    return Path(workspace.get_root_dir()) / "consilium" / _NOTE


def _go_on(fl_ctx: FLContext) -> None:
    note = _note(fl_ctx)
    if note.exists():
        meta = msgspec.json.decode(note.read_bytes(), type=dict[str, object])
        said = fl_ctx.get_engine().start_app(meta[JobConstants.JOB_ID], meta)
        logger.warning("this site was restarted during a job and goes on with it: %s", said)


@final
class _Handle(JobHandleSpec):
    def __init__(self, start: Callable[[], ProcessHandle]) -> None:
        self._start, self._process = start, start()
        self._starts, self._unwanted = 1, False

    def terminate(self) -> None:
        self._unwanted = True
        self._process.terminate()

    def wait(self) -> None:
        self._process.wait()
        while self._killed() and not self._unwanted and self._starts < _MOST_STARTS:
            time.sleep(_PAUSE)
            if not self._unwanted:
                logger.warning("the job's process was killed; starting it again")
                self._process, self._starts = self._start(), self._starts + 1
                self._process.wait()

    def poll(self) -> int:
        code: int = self._process.poll()
        return JobReturnCode.UNKNOWN if code == JobReturnCode.EXECUTION_ERROR else code

    def _killed(self) -> bool:
        code = self._process.adapter.poll()
        return code is not None and code < 0

# SPDX-License-Identifier: Apache-2.0
"""Starts a site's job process as NVFlare does, but a crash there does not end everybody's run.

NVFlare 2.9 fails a whole job when one site's process dies with an error. Which losses a run can
bear is our coordinator's rule (the threshold), so a death is reported as an end without a
code; the coordinator notices that the site no longer answers.
"""

from typing import final

from nvflare.apis.fl_context import FLContext
from nvflare.apis.job_launcher_spec import JobHandleSpec, JobReturnCode
from nvflare.app_common.job_launcher.client_process_launcher import ClientProcessJobLauncher


@final
class SiteLauncher(ClientProcessJobLauncher):
    """NVFlare's launcher of processes, with our handle on each."""

    def launch_job(self, job_meta: dict[str, object], fl_ctx: FLContext) -> JobHandleSpec:
        """Returns a handle on the started process."""
        return _Handle(super().launch_job(job_meta, fl_ctx))


@final
class _Handle(JobHandleSpec):
    def __init__(self, process: JobHandleSpec) -> None:
        self._process = process

    def terminate(self) -> None:
        self._process.terminate()

    def wait(self) -> None:
        self._process.wait()

    def poll(self) -> int:
        code: int = self._process.poll()
        return JobReturnCode.UNKNOWN if code == JobReturnCode.EXECUTION_ERROR else code

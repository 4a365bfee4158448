# SPDX-License-Identifier: Apache-2.0
"""The researcher's end: a run becomes an NVFlare job of settings only; its results come back."""

import io
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Final, TypeAlias, TypeVar, final

import msgspec
from nvflare.apis.job_def import JobMetaKey
from nvflare.fuel.flare_api.api_spec import (
    InternalError,
    JobNotRunning,
    NoConnection,
    NoReply,
    SessionClosed,
)
from nvflare.fuel.flare_api.flare_api import Session, new_secure_session

from consilium.adapters.nvflare.coordinator_link import read_refusal
from consilium.adapters.nvflare.envelope import PROGRESS
from consilium.adapters.nvflare.kits import (
    COORDINATOR_LINK,
    RESEARCHER,
    SITE_LINK,
    Federation,
    federation_of,
)
from consilium.adapters.stage import MODEL, RESULT, Run, finished_before
from consilium.adapters.whole_files import write_whole
from consilium.errors import ConfigError, RoundAborted
from consilium.federation.results import RunResult

_NOTE: Final = "federation.json"
_POLL: Final = 1.0  # seconds
_CONNECT: Final = 20.0  # seconds
_PATIENCE: Final = 45.0  # seconds, for sites that look for their coordinator, and for answers
_LOST: Final = (
    "the coordinator cannot be reached any more; expected a connection until the end: the run goes "
    "on without it, fetch its result later with --resume"
)

_T = TypeVar("_T")
Seen: TypeAlias = Mapping[str, int | float | str | None]


@final
class Submitted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the researcher's folder remembers of a run at a federation."""

    federation: str
    run: str


def train_there(run: Run, kit: Path, watch: Callable[[Seen], None]) -> RunResult:
    """Returns the result of a run at a federation; it and the model are in the run's folder.

    Args:
        run: What is to be run; with resume, what its folder says was begun.
        kit: The researcher's.
        watch: Is told where the run stands, about every second.

    Raises:
        ConfigError: The coordinator cannot be reached, or the folder holds no such run.
        RoundAborted: The run was refused, or ended without a result.
    """
    says = federation_of(kit.resolve(), RESEARCHER)
    run.folder.mkdir(parents=True, exist_ok=True)
    name = _name(run, says)
    with _session(kit.resolve(), says) as session, tempfile.TemporaryDirectory() as folder:
        _await_sites(session, says.sites, watch)
        job = _write_job(Path(folder) / name, run, name)
        status = _followed(session, session.submit_job(str(job)), watch, Path(folder), run)
    result = finished_before(run)
    if result is None:
        raise RoundAborted(
            f"the run ended without a result (NVFlare: {status}); expected one: see the "
            "coordinator's log, then go on with --resume"
        )
    return result


def _name(run: Run, says: Federation) -> str:
    """Returns the run's name at the federation: that of before, or a new one."""
    path = run.folder / _NOTE
    if run.resume and path.exists():
        before = msgspec.json.decode(path.read_bytes(), type=Submitted)
        if before.federation != says.name:
            raise ConfigError(
                f"run {before.run} was begun at federation {before.federation}; expected its "
                f"kit, found one of {says.name}"
            )
        return before.run
    words = re.sub("[^a-z0-9]+", "-", f"{run.project.name}-{run.arm}".lower()).strip("-")
    name = f"{words[:50]}-seed{run.seed}-{secrets.token_hex(4)}"
    note = Submitted(federation=says.name, run=name)
    write_whole(path, msgspec.json.encode(note))
    return name


def _await_sites(session: Session, sites: Sequence[str], watch: Callable[[Seen], None]) -> None:
    """Waits a little for sites that are not connected; without them the coordinator decides."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        present = _answered(session.get_connected_client_list)
        missing = set(sites) - {one.name for one in present}
        if not missing:
            return
        watch({"phase": f"waiting for {', '.join(sorted(missing))}"})
        time.sleep(_POLL)


def _followed(
    session: Session, job: str, watch: Callable[[Seen], None], folder: Path, run: Run
) -> str:
    status = ""
    try:
        while not status.startswith("FINISHED"):
            status = str(_answered(lambda: session.get_job_meta(job))[JobMetaKey.STATUS.value])
            if status == "RUNNING":
                watch(_progress(session, job))
            time.sleep(_POLL)
        fetched = _answered(lambda: session.download_job_result(job, str(folder)))
    except KeyboardInterrupt:
        session.abort_job(job)
        raise
    _fetch(Path(fetched), run)
    return status


def _answered(ask: Callable[[], _T]) -> _T:
    """Returns what a coordinator answers that may be busy, or be started again meanwhile."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return ask()
        except (NoConnection, SessionClosed):
            if time.monotonic() > deadline:
                raise RoundAborted(_LOST) from None
        time.sleep(_POLL)


def _progress(session: Session, job: str) -> Seen:
    try:
        return dict(session.do_app_command(job, PROGRESS, {}))
    except (JobNotRunning, InternalError, NoReply, NoConnection, RuntimeError):
        return {}  # while a job starts and ends, or a busy coordinator is slow


def _fetch(downloaded: Path, run: Run) -> None:
    found = downloaded / "workspace"
    refusal = read_refusal(found)
    if refusal is not None:
        raise RoundAborted(refusal)
    for name in (MODEL, RESULT):
        if (found / name).exists():
            shutil.copyfile(found / name, run.folder / name)


@contextmanager
def _session(kit: Path, says: Federation) -> Iterator[Session]:
    user = msgspec.json.decode((kit / "startup" / "fed_admin.json").read_bytes())["admin"]
    try:
        with redirect_stdout(io.StringIO()):  # it says "Connecting to FLARE ..."
            session = new_secure_session(user["username"], str(kit), timeout=_CONNECT)
    except NoConnection:
        raise ConfigError(
            f"no coordinator at {says.host}:{says.port}; expected one that listens: "
            "consilium coordinator serve KIT, and a firewall that lets this machine out"
        ) from None
    try:
        yield session
    finally:
        session.close()


def _write_job(folder: Path, run: Run, name: str) -> Path:
    """Returns a job that holds settings and nothing else."""
    args = {"project": run.project.resolved(), "arm": run.arm, "seed": run.seed, "run": name}
    server = {
        "format_version": 2,
        "task_data_filters": [],
        "task_result_filters": [],
        "components": [],
        "workflows": [{"id": "consilium", "path": COORDINATOR_LINK, "args": args}],
    }
    client = {
        "format_version": 2,
        "task_data_filters": [],
        "task_result_filters": [],
        "components": [],
        "executors": [{"tasks": ["*"], "executor": {"path": SITE_LINK, "args": args}}],
    }
    meta = {"name": name, "min_clients": 1, "resource_spec": {}, "deploy_map": {"app": ["@ALL"]}}
    config = folder / "app" / "config"
    config.mkdir(parents=True)
    (folder / "meta.json").write_bytes(msgspec.json.encode(meta))
    (config / "config_fed_server.json").write_bytes(msgspec.json.encode(server))
    (config / "config_fed_client.json").write_bytes(msgspec.json.encode(client))
    return folder

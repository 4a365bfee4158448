# SPDX-License-Identifier: Apache-2.0
"""Start-up kits: NVFlare provisions them (its own CA, mutual TLS); we close what we do not use.

    NAME/kits/coordinator/   NAME/kits/SITE/   NAME/kits/researcher/   one folder a party
    NAME/authority/          the CA's key alone: keep it offline, it makes new members

Guarantees: in a kit that was opened with `prepare`, NVFlare builds one component, ours; code
that travels, shell commands and log streaming are off for every role. Keys are files of mode
600. There is no default password.
"""

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, final

import msgspec
from msgspec.structs import replace
from nvflare.lighter.entity import Project as Provisioned
from nvflare.lighter.impl.cert import CertBuilder
from nvflare.lighter.impl.signature import SignatureBuilder
from nvflare.lighter.impl.static_file import StaticFileBuilder
from nvflare.lighter.impl.workspace import WorkspaceBuilder
from nvflare.lighter.provisioner import Provisioner

from consilium.adapters.health import FILE
from consilium.adapters.logs import Format, log_settings
from consilium.adapters.whole_files import write_whole
from consilium.errors import ConfigError

COORDINATOR: Final = "coordinator"
RESEARCHER: Final = "researcher"
AUTHORITY: Final = "authority"
_USER: Final = "researcher@consilium.example"
_LINKS: Final = "consilium.adapters.nvflare"
SITE_LINK: Final = f"{_LINKS}.site_link.SiteLink"
COORDINATOR_LINK: Final = f"{_LINKS}.coordinator_link.CoordinatorLink"
KEEPER: Final = f"{_LINKS}.keeper.Keeper"
_NVFLARE_LAUNCHER: Final = (
    "nvflare.app_common.job_launcher.client_process_launcher.ClientProcessJobLauncher"
)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")
_CERTIFICATES: Final = "cert.json"  # NVFlare's name
_CA_DAYS: Final = 3650
_STREAMS: Final = {
    # NVFlare keeps a thread for so long after each message it received; ours are sent again anyway
    "streaming_retry_timeout": 10.0,
    # A buffer of this size is made for every message, however short; with NVFlare's megabyte, many
    # threads cut the heap to pieces and a run's memory grew by a sixth in 1,000 rounds.
    "streaming_chunk_size": 1 << 17,
}
# One thread at a time computes here; an arena of the C library for each of hundreds holds pages.
_ENVIRONMENT: Final = {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
_SILENCE: Final = 30  # seconds without a heartbeat (one in ten) after which a site counts as gone

Driver: TypeAlias = Literal["grpc", "http"]


@final
class Federation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every kit of a federation says.

    Attributes:
        name: Of the federation.
        role: Of this kit: coordinator, researcher, a site's name; or authority.
        sites: Every site, by name.
        host: Where the coordinator listens.
        port: Its one port.
        driver: How parties speak over TLS: gRPC, or HTTP with websockets for networks that let
            nothing else out.
        removed: Sites whose certificates are refused; no site gets such a name again.
    """

    name: str
    role: str
    sites: tuple[str, ...]
    host: str
    port: int
    driver: Driver = "grpc"
    removed: tuple[str, ...] = ()


@final
class CoordinatorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the operator of the coordinator chose; public.

    Attributes:
        data_folder: Where the validation and test records lie.
        quorum_seconds: How long a phase waits for sites that are missing.
        join_seconds: How long a run waits for sites' processes at its start.
        lost_seconds: How long an answer may take, computing included; then the site is lost.
    """

    data_folder: str | None = None
    quorum_seconds: float = 60.0
    join_seconds: float = 120.0
    lost_seconds: float = 600.0


def provision(federation: Federation, folder: Path) -> list[Path]:
    """Returns the kits of a new federation, which lie under `folder`.

    Raises:
        ConfigError: A name cannot be used, or the folder is taken.
    """
    check_names(federation.name, *federation.sites)
    if folder.exists():
        raise ConfigError(f"folder {folder} exists; expected a new one: choose another --out")
    (folder / "kits").mkdir(parents=True, mode=0o700)
    folder.chmod(0o700)
    kits = []
    for role, made in certify(federation, folder).items():
        kit = folder / "kits" / role
        shutil.move(made, kit)
        say(federation, role, kit)
        kits.append(kit)
    say(federation, AUTHORITY, folder / AUTHORITY)
    shutil.rmtree(folder / "work")
    return kits


def certify(federation: Federation, folder: Path) -> dict[str, Path]:
    """Returns fresh NVFlare kits by role, certified by the authority of `folder`, in its `work`.

    The authority is made if there is none. It keeps its own key, and nobody else's.

    Raises:
        ConfigError: NVFlare cannot provision this.
    """
    made = Provisioned(federation.name, "consilium")
    port = federation.port
    properties = {"fed_learn_port": port, "admin_port": port, "default_host": federation.host}
    made.set_server(federation.host, "consilium", properties)
    for site in federation.sites:
        made.add_client(site, "consilium", {})
    made.add_admin(_USER, "consilium", {"role": "lead"})
    builders = [
        WorkspaceBuilder(["master_template.yml"]),
        StaticFileBuilder(config_folder="config", scheme=federation.driver),
        CertBuilder(root_valid_days=_CA_DAYS),
        SignatureBuilder(),
    ]
    work, authority = folder / "work", folder / AUTHORITY
    state = work / federation.name / "state"
    state.mkdir(parents=True, mode=0o700)
    if (authority / _CERTIFICATES).exists():
        shutil.copyfile(authority / _CERTIFICATES, state / _CERTIFICATES)
    context = Provisioner(str(work), builders).provision(made, logger=_Silent())
    if context.get("build_error"):
        raise ConfigError(f"NVFlare could not provision {federation.name}; see its message above")
    _keep_authority(state / _CERTIFICATES, authority)
    there = Path(str(context.get("current_prod_dir")))
    roles = {made.get_server().name: COORDINATOR, _USER: RESEARCHER}
    roles |= {site: site for site in federation.sites}
    return {role: there / own for own, role in roles.items()}


def _keep_authority(made: Path, authority: Path) -> None:
    """Keeps the authority's own key; NVFlare would keep everybody's."""
    authority.mkdir(mode=0o700, exist_ok=True)
    kept = msgspec.json.decode(made.read_bytes(), type=dict[str, object])
    own = msgspec.json.encode({name: kept[name] for name in ("root_cert", "root_pri_key")})
    path = authority / _CERTIFICATES
    path.touch(mode=0o600)
    if path.read_bytes() != own:
        write_whole(path, own)
        path.chmod(0o600)


def say(federation: Federation, role: str, kit: Path) -> None:
    """Writes into a kit whose it is."""
    for one in (kit, kit / "consilium"):
        one.mkdir(mode=0o700, exist_ok=True)
        one.chmod(0o700)
    says = replace(federation, role=role)
    write_whole(kit / "consilium" / "federation.json", msgspec.json.encode(says))


def check_names(name: str, *sites: str) -> None:
    """Refuses names that cannot be used.

    Raises:
        ConfigError: One is not plain, is taken by another role, or comes twice.
    """
    for one in (name, *sites):
        if not _NAME.fullmatch(one) or one in (COORDINATOR, RESEARCHER, AUTHORITY):
            raise ConfigError(
                f"{one!r} cannot be a name here; expected lower-case letters, digits and hyphens, "
                f"at most 41, and not {COORDINATOR}, {RESEARCHER} or {AUTHORITY}"
            )
    if len(set(sites)) < len(sites) or len(sites) < 1:
        raise ConfigError(f"sites {', '.join(sites)}; expected each once")


class _Silent:
    """NVFlare's provisioning prints; its errors are raised here."""

    def info(self, message: str) -> None:
        """Says nothing."""

    debug = info
    warning = info

    def error(self, message: str) -> None:
        """Raises it."""
        raise ConfigError(f"provisioning failed: {message}")


# -- Opening a kit --------------------------------------------------------------------


def federation_of(kit: Path, *roles: str) -> Federation:
    """Returns what a kit says of itself.

    Args:
        kit: Its folder.
        roles: Whose kit it must be; none is a site's.

    Raises:
        ConfigError: It is no kit, or somebody else's.
    """
    try:
        says = msgspec.json.decode(
            (kit / "consilium" / "federation.json").read_bytes(), type=Federation
        )
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(
            f"{kit} is no start-up kit ({type(error).__name__}); expected a folder of "
            "consilium federation init, copied whole"
        ) from None
    if says.role not in (roles or says.sites):
        wanted = " or ".join(roles) or "site"
        raise ConfigError(f"{kit} is the kit of {says.role}; expected one of a {wanted}")
    return says


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """How a party's process can be watched.

    Attributes:
        metrics_host: Where its numbers are served.
        metrics_port: There; 0 for nowhere.
        log_format: Of its lines.
    """

    metrics_host: str = "127.0.0.1"
    metrics_port: int = 0
    log_format: Format = "text"


def prepare(kit: Path, link: str, says: Federation, watching: Watching) -> None:
    """Writes NVFlare's local policy of a kit: one component, no travelling code, no shell."""
    local = kit / "local"
    lines = log_settings(watching.log_format, says.role)
    write_whole(local / "log_config.json", msgspec.json.encode(lines))
    write_whole(local / "comm_config.json", msgspec.json.encode(_STREAMS))
    resources = msgspec.json.decode((local / "resources.json.default").read_bytes())
    resources["class_allow_list"] = [link]
    resources["allow_log_streaming"] = False
    resources["components"] = [
        _at_home(one, kit)
        for one in resources["components"]
        if one["id"] not in ("site_log_streamer", "log_receiver")
    ]
    resources["components"].append(_keeper(kit, says, watching))
    if "snapshot_persistor" in resources:
        resources["servers"][0]["heart_beat_timeout"] = _SILENCE
        storage = resources["snapshot_persistor"]["args"]["storage"]["args"]
        storage["root_dir"] = str(kit / "snapshots")
    write_whole(local / "resources.json", msgspec.json.encode(resources))
    rights = msgspec.json.decode((local / "authorization.json.default").read_bytes())
    for granted in rights["permissions"].values():
        if isinstance(granted, dict):
            granted |= {"byoc": "none", "shell_commands": "none", "clone_job": "none"}
    rights["permissions"]["lead"] |= {"download_job": "n:submitter", "app_command": "n:submitter"}
    write_whole(local / "authorization.json", msgspec.json.encode(rights))


def _keeper(kit: Path, says: Federation, watching: Watching) -> dict[str, object]:
    where = {"host": watching.metrics_host, "port": watching.metrics_port}
    args = {"kit": str(kit), "role": says.role, "sites": says.sites, **where}
    return {"id": "consilium_keeper", "path": KEEPER, "args": args}


def _at_home(component: dict[str, object], kit: Path) -> dict[str, object]:
    """Returns a component that keeps its files in the kit, and outlives a crash at one site."""
    if component["id"] == "job_manager":
        return component | {"args": {"uri_root": str(kit / "jobs"), "job_store_id": "job_store"}}
    if component["path"] == _NVFLARE_LAUNCHER:
        return component | {"path": f"{_LINKS}.launcher.SiteLauncher"}
    return component


def settle_coordinator(kit: Path, settings: CoordinatorSettings) -> None:
    """Writes what the operator chose."""
    write_whole(kit / "consilium" / "coordinator.json", msgspec.json.encode(settings))


def coordinator_settings(kit: Path) -> CoordinatorSettings:
    """Returns what the operator chose.

    Raises:
        ConfigError: The coordinator was not started by consilium.
    """
    try:
        data = (kit / "consilium" / "coordinator.json").read_bytes()
        return msgspec.json.decode(data, type=CoordinatorSettings)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(
            f"coordinator.json cannot be read ({type(error).__name__}); expected: "
            "consilium coordinator serve KIT"
        ) from None


def serve(kit: Path, role: str) -> None:
    """Becomes NVFlare's process for this kit, which `lock` holds; does not return."""
    app, config = ("server", "server") if role == COORDINATOR else ("client", "client")
    words = [
        sys.executable, "-u", "-m", f"nvflare.private.fed.app.{app}.{app}_train",
        "-m", str(kit), "-s", f"fed_{config}.json", "--set", "secure_train=true",
        "org=consilium", "config_folder=config",
    ]  # fmt: skip
    if role != COORDINATOR:
        words.append(f"uid={role}")
    (kit / "transfer").mkdir(exist_ok=True)
    (kit / "consilium" / FILE).unlink(missing_ok=True)  # of a run that no longer lives
    os.chdir(kit)
    os.execve(sys.executable, words, {**os.environ, **_ENVIRONMENT})  # noqa: S606

# SPDX-License-Identifier: Apache-2.0
"""Start-up kits: NVFlare provisions them (its own CA, mutual TLS); we close what we do not use.

    NAME/kits/coordinator/   NAME/kits/SITE/   NAME/kits/researcher/   one folder a party
    NAME/authority/          the CA's key: keep it offline, it makes new members

Guarantees: in a kit that was opened with `prepare`, NVFlare builds one component, ours; code
that travels, shell commands and log streaming are off for every role. Keys are files of mode
600. There is no default password.
"""

import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, final

import msgspec
from nvflare.lighter.entity import Project as Provisioned
from nvflare.lighter.impl.cert import CertBuilder
from nvflare.lighter.impl.signature import SignatureBuilder
from nvflare.lighter.impl.static_file import StaticFileBuilder
from nvflare.lighter.impl.workspace import WorkspaceBuilder
from nvflare.lighter.provisioner import Provisioner

from consilium.adapters.checkpoints import write_whole
from consilium.errors import ConfigError

COORDINATOR: Final = "coordinator"
RESEARCHER: Final = "researcher"
_USER: Final = "researcher@consilium.example"
_LINKS: Final = "consilium.adapters.nvflare"
SITE_LINK: Final = f"{_LINKS}.site_link.SiteLink"
COORDINATOR_LINK: Final = f"{_LINKS}.coordinator_link.CoordinatorLink"
_NVFLARE_LAUNCHER: Final = (
    "nvflare.app_common.job_launcher.client_process_launcher.ClientProcessJobLauncher"
)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")
_CA_DAYS: Final = 3650
_SILENCE: Final = 30  # seconds without a heartbeat (one in ten) after which a site counts as gone


@final
class Federation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every kit of a federation says.

    Attributes:
        name: Of the federation.
        role: Of this kit: coordinator, researcher, or a site's name.
        sites: Every site, by name.
        host: Where the coordinator listens.
        port: Its one port.
    """

    name: str
    role: str
    sites: tuple[str, ...]
    host: str
    port: int


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


def provision(name: str, sites: Sequence[str], host: str, port: int, folder: Path) -> list[Path]:
    """Returns the kits of a new federation, which lie under `folder`.

    Raises:
        ConfigError: A name cannot be used, or the folder is taken.
    """
    _check(name, sites, folder)
    folder.mkdir(parents=True, mode=0o700)
    made = Provisioned(name, "consilium")
    properties = {"fed_learn_port": port, "admin_port": port, "default_host": host}
    made.set_server(host, "consilium", properties)
    for site in sites:
        made.add_client(site, "consilium", {})
    made.add_admin(_USER, "consilium", {"role": "lead"})
    builders = [
        WorkspaceBuilder(["master_template.yml"]),
        StaticFileBuilder(config_folder="config", scheme="grpc"),
        CertBuilder(root_valid_days=_CA_DAYS),
        SignatureBuilder(),
    ]
    context = Provisioner(str(folder / "work"), builders).provision(made, logger=_Silent())
    if context.get("build_error"):
        raise ConfigError(f"NVFlare could not provision {name}; see its message above")
    return _place(folder, Path(str(context.get("current_prod_dir"))), made)


def _check(name: str, sites: Sequence[str], folder: Path) -> None:
    for one in (name, *sites):
        if not _NAME.fullmatch(one) or one in (COORDINATOR, RESEARCHER):
            raise ConfigError(
                f"{one!r} cannot be a name here; expected lower-case letters, digits and hyphens, "
                f"at most 41, and not {COORDINATOR} or {RESEARCHER}"
            )
    if len(set(sites)) < len(sites) or len(sites) < 1:
        raise ConfigError(f"sites {', '.join(sites)}; expected each once")
    if folder.exists():
        raise ConfigError(f"folder {folder} exists; expected a new one: choose another --out")


def _place(folder: Path, made: Path, project: Provisioned) -> list[Path]:
    """Moves what NVFlare made to where people look for it, and says in each kit whose it is."""
    server = project.get_server()
    sites = tuple(sorted(client.name for client in project.get_clients()))
    roles = {server.name: COORDINATOR, _USER: RESEARCHER} | {site: site for site in sites}
    kits = []
    (folder / "kits").mkdir(mode=0o700)
    for own, role in roles.items():
        kit = folder / "kits" / role
        shutil.move(made / own, kit)
        kit.chmod(0o700)
        (kit / "consilium").mkdir(mode=0o700)
        says = Federation(
            name=project.name,
            role=role,
            sites=sites,
            host=server.name,
            port=int(server.get_prop("fed_learn_port")),
        )
        write_whole(kit / "consilium" / "federation.json", msgspec.json.encode(says))
        kits.append(kit)
    shutil.move(made.parent / "state", folder / "authority")
    (folder / "authority").chmod(0o700)
    for secret in (folder / "authority").iterdir():
        secret.chmod(0o600)
    shutil.rmtree(folder / "work")
    return kits


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


def prepare(kit: Path, link: str) -> None:
    """Writes NVFlare's local policy of a kit: one component, no travelling code, no shell."""
    local = kit / "local"
    resources = msgspec.json.decode((local / "resources.json.default").read_bytes())
    resources["class_allow_list"] = [link]
    resources["allow_log_streaming"] = False
    resources["components"] = [
        _at_home(one, kit)
        for one in resources["components"]
        if one["id"] not in ("site_log_streamer", "log_receiver")
    ]
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
    """Becomes NVFlare's process for this kit; does not return."""
    app, config = ("server", "server") if role == COORDINATOR else ("client", "client")
    words = [
        sys.executable, "-u", "-m", f"nvflare.private.fed.app.{app}.{app}_train",
        "-m", str(kit), "-s", f"fed_{config}.json", "--set", "secure_train=true",
        "org=consilium", "config_folder=config",
    ]  # fmt: skip
    if role != COORDINATOR:
        words.append(f"uid={role}")
    (kit / "transfer").mkdir(exist_ok=True)
    os.chdir(kit)
    os.execve(sys.executable, words, {**os.environ, "OMP_NUM_THREADS": "1"})  # noqa: S606

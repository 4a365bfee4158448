# SPDX-License-Identifier: Apache-2.0
"""What is under `deploy/`: its commands are ours, nothing is open by default, tools accept it."""

import re
import shlex
import shutil
import subprocess
import sys
from configparser import ConfigParser
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from consilium.cli import machines
from consilium.cli.app import main

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
PARTIES = ("coordinator", "a", "b", "c")
PORT = 9464


class Service(msgspec.Struct):
    """Of a service, what these tests look at."""

    user: str
    read_only: bool
    cap_drop: list[str]
    security_opt: list[str]
    healthcheck: dict[str, object]
    volumes: list[str]
    command: list[str] = []
    ports: list[str] = []
    profiles: list[str] = []
    privileged: bool = False


class Compose(msgspec.Struct):
    """Of the file, what these tests look at."""

    services: dict[str, Service]
    secrets: dict[str, dict[str, str]]


COMPOSE = msgspec.yaml.decode((DEPLOY / "compose.yaml").read_bytes(), type=Compose)


def unit(path: Path) -> ConfigParser:
    parser = ConfigParser(interpolation=None)
    parser.read(path)
    return parser


def commands() -> dict[str, list[str]]:
    """Returns every command line of ours, by where it stands."""
    found = {f"compose {name}": COMPOSE.services[name].command for name in PARTIES}
    for path in UNITS:
        words = shlex.split(unit(path)["Service"]["ExecStart"])
        assert words[0] == "/opt/consilium/bin/consilium"
        found[path.name] = words[1:]
    return found


# -- Commands -------------------------------------------------------------------------


@dataclass
class Recorded:
    """Notes what a command would do."""

    watched: list[tuple[str, int, str]] = field(default_factory=list[tuple[str, int, str]])
    called: list[tuple[object, ...]] = field(default_factory=list[tuple[object, ...]])

    def watching(self, host: str, port: int, log_format: str) -> None:
        self.watched.append((host, port, log_format))

    def join(self, *words: object) -> None:
        self.called.append(words)

    serve_coordinator = join


@pytest.mark.parametrize("where", commands())
def test_a_command_is_one_of_ours_with_every_option(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded, words = Recorded(), commands()[where]
    monkeypatch.setattr(machines, "_operations", lambda: recorded)
    monkeypatch.setattr(sys, "argv", ["consilium", *words])

    with pytest.raises(SystemExit) as stopped:
        main()

    assert stopped.value.code == 0
    assert recorded.watched == [("127.0.0.1", PORT, "json")]
    assert recorded.called[0][:2] == (Path(words[2]), Path(words[4]))


def test_demonstration_settings_are_in_no_command() -> None:
    words = {word for line in commands().values() for word in line}

    freely = {"--part-of-shared-source", "--approve-every-project", "--trust-first-roster"}
    assert words & freely == set()


# -- Compose --------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMPOSE.services)
def test_a_service_has_no_rights_that_it_does_not_need(name: str) -> None:
    one = COMPOSE.services[name]

    assert (one.read_only, one.privileged) == (True, False)
    assert one.cap_drop == ["ALL"]
    assert one.security_opt == ["no-new-privileges:true"]
    assert (one.user == "0:0") == (name == "kits")


def test_only_the_coordinator_opens_a_port_and_only_its_own() -> None:
    open_ports = {name: one.ports for name, one in COMPOSE.services.items() if one.ports}

    assert open_ports == {"coordinator": ["8002:8002"]}


@pytest.mark.parametrize("name", PARTIES)
def test_a_party_is_watched_and_keeps_its_kit(name: str) -> None:
    one = COMPOSE.services[name]

    assert one.healthcheck["test"] == ["CMD", "python", "/opt/consilium/health.py"]
    assert one.volumes[0] == f"{name}:/party"
    assert one.volumes[1].endswith(f"/{name}:/records:ro")


def test_no_password_stands_anywhere() -> None:
    text = "".join(path.read_text() for path in DEPLOY.iterdir())

    assert re.findall(r"^ *\w*PASSWORD\w*: *(?!/run/secrets/)\S+", text, re.MULTILINE) == []
    assert re.findall(r"(?i)password=", text) == []
    files = [one["file"] for one in COMPOSE.secrets.values()]
    assert files == ["${POSTGRES_PASSWORD_FILE:-./postgres_password.txt}"]
    assert not (DEPLOY / "postgres_password.txt").exists()
    assert COMPOSE.services["postgres"].profiles == ["postgres"]


@pytest.mark.skipif(shutil.which("docker") is None, reason="docker is not here")
def test_docker_accepts_the_file() -> None:
    there = ["docker", "compose", "-f", str(DEPLOY / "compose.yaml")]
    if subprocess.run([*there[:2], "version"], check=False, capture_output=True).returncode:  # noqa: S603
        pytest.skip("docker compose is not here")

    made = subprocess.run(  # noqa: S603
        [*there, "--profile", "postgres", "config", "--quiet"],
        check=False,
        capture_output=True,
        text=True,
    )

    assert (made.returncode, made.stderr) == (0, "")


# -- systemd --------------------------------------------------------------------------


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_is_shut_in(path: Path) -> None:
    own = unit(path)["Service"]

    assert own["User"] == "consilium"
    assert (own["NoNewPrivileges"], own["ProtectSystem"]) == ("true", "strict")
    assert (own["CapabilityBoundingSet"], own["PrivateTmp"]) == ("", "true")
    kit = shlex.split(own["ExecStart"])[3]
    assert own["ReadWritePaths"] == kit


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_accepts_a_unit(path: Path) -> None:
    made = subprocess.run(  # noqa: S603
        ["systemd-analyze", "verify", str(path)],  # noqa: S607
        check=False,
        capture_output=True,
        text=True,
    )

    said = [line for line in made.stderr.splitlines() if path.name in line]
    missing = f"{path.name}: Command /opt/consilium/bin/consilium is not executable: "
    assert [line for line in said if not line.startswith(missing)] == []


# -- Health ---------------------------------------------------------------------------


def test_the_health_check_reads_the_port_of_the_commands() -> None:
    text = (DEPLOY / "health.py").read_text()

    assert f"http://127.0.0.1:{PORT}/metrics" in text
    assert 'consilium_run_standing{is="died"}' in text

# SPDX-License-Identifier: Apache-2.0
"""A real federation, watched: numbers, logs, a second start by mistake, new certificates.

Like `test_nvflare`, one federation for all tests of this file, in their order.
"""

import base64
import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.adapters.conftest import made_up_arrays, make_run, same_seeds
from tests.engine.machines import (
    ARM,
    MAIN,
    NAMES,
    THREE,
    Machines,
    environment,
    free_port,
    listens,
    until,
)

from consilium.errors import RoundAborted

pytest.importorskip("nvflare")

from consilium.adapters.nvflare.submission import train_there

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

PARTIES = ("coordinator", *NAMES)
REGISTERED = "Successfully registered"
PATIENT = "Erika-Mustermann"
OWN = {**THREE, "data.source": "own.npz", "dp.delta": "1e-3", "dp.expected_batch": "20"}
FREELY = ("--approve-every-project", "--trust-first-roster")


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", MAIN, *words],
        env=environment("researcher"),
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return {name: free_port() for name in PARTIES}


def write_records(folder: Path) -> None:
    """Writes records whose patients' names are recognised wherever they turn up."""
    folder.mkdir()
    arrays = made_up_arrays()
    for split in ("train", "val", "test"):
        count = len(arrays[f"{split}_groups"])
        arrays[f"{split}_groups"] = np.array([f"{PATIENT}-{split}-{k // 2}" for k in range(count)])
    np.savez(folder / "own.npz", allow_pickle=False, **arrays)


def start(made: Machines, name: str, ports: dict[str, int]) -> None:
    """Starts a party that can be watched."""
    serve = ("coordinator", "serve") if name == "coordinator" else ("site", "join")
    freely = () if name == "coordinator" else FREELY
    watched = ("--metrics-port", str(ports[name]), "--log-format", "json")
    data = ("--data", str(made.folder / "records"))
    made.start(name, *serve, str(made.kit(name)), *data, *freely, *watched)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory, ports: dict[str, int]) -> Iterator[Machines]:
    folder, port = tmp_path_factory.mktemp("watched") / "chest", free_port()
    words = ["chest", "--sites", "a,b,c", "--port", str(port), "--out", str(folder)]
    assert command("federation", "init", *words).returncode == 0
    made = Machines(folder)
    write_records(folder / "records")
    try:
        start(made, "coordinator", ports)
        until(lambda: listens(port))
        for name in NAMES:
            start(made, name, ports)
        until(lambda: all(made.said(name, REGISTERED) for name in NAMES))
        yield made
    finally:
        for name in list(made.running):
            made.kill(name)
        for log in made.logs:
            log.close()


def numbers(port: int) -> dict[tuple[str, str], float]:
    """Returns every sample by its name and its labels' values."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    return {
        (
            sample.name.removeprefix("consilium_"),
            "/".join(v for _, v in sorted(sample.labels.items())),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


# -- Numbers --------------------------------------------------------------------------


@pytest.mark.usefixtures("machines")
def test_parties_have_numbers_before_any_run(ports: dict[str, int]) -> None:
    until(lambda: all(listens(port) for port in ports.values()), 30)

    coordinator = numbers(ports["coordinator"])

    assert coordinator["sites_alive", ""] == coordinator["sites_expected", ""] == 3
    for name in PARTIES:
        assert numbers(ports[name])["run_standing", "idle"] == 1
    assert all(abs(numbers(ports[name])["clock_skew_seconds", ""]) < 1 for name in NAMES)


def test_numbers_of_a_run_stay_after_its_end(
    machines: Machines, ports: dict[str, int], tmp_path: Path
) -> None:
    run = make_run(tmp_path / "there", ARM, OWN)
    result = train_there(run, machines.kit("researcher"), lambda _seen: None)

    coordinator = numbers(ports["coordinator"])
    assert coordinator["run_standing", "finished"] == 1
    assert (coordinator["round", ""], coordinator["rounds", ""]) == (4, 4)
    assert (coordinator["attempts_total", ""], coordinator["abandoned_rounds_total", ""]) == (4, 0)
    assert coordinator["phase_seconds_total", "computing"] > 0
    epsilon = max(one.epsilon for one in result.statement.guarantees)
    until(lambda: all(numbers(ports[k])["run_standing", "finished"] == 1 for k in NAMES), 20)
    for name in NAMES:
        site = numbers(ports[name])
        assert (site["charges_total", ""], site["epsilon_spent", ""]) == (4, epsilon)
    assert coordinator["epsilon_spent", ""] == epsilon
    sent = sum(numbers(ports[name])["bytes_total", "Upload/out"] for name in NAMES)
    assert coordinator["bytes_total", "Upload/in"] == sent > 0


# -- Logs -----------------------------------------------------------------------------


def written(machines: Machines) -> dict[Path, bytes]:
    """Returns everything that parties write to be read by operators."""
    logs = {*machines.folder.glob("*.log"), *machines.folder.rglob("*log*.txt*")}
    health = machines.folder.rglob("health.json")
    return {path: path.read_bytes() for path in (*logs, *health)}


def lines_of(machines: Machines, party: str) -> list[dict[str, object]]:
    """Returns the lines of a party's process and of its runs' processes."""
    text = (machines.folder / f"{party}.log").read_text()
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_runs_are_logged_with_their_place(machines: Machines) -> None:
    sites = [line for name in NAMES for line in lines_of(machines, name)]
    coordinator = lines_of(machines, "coordinator")

    done = [line["round"] for line in coordinator if line["event"] == "round is done"]
    paid = [line["round"] for line in sites if line["event"] == "round is paid for"]
    assert done == [1, 2, 3, 4]
    assert sorted(map(str, paid)) == sorted("1234" * 3)
    runs = {line["run"] for line in (*sites, *coordinator) if "run" in line}
    assert len(runs) == 1


def secrets_of(machines: Machines) -> dict[str, bytes]:
    """Returns what must be nowhere: names, keys as files and as text, where randomness began."""
    kits = machines.folder / "kits"
    found = {"patient": PATIENT.encode(), "surname": b"Mustermann"}
    for number, name in enumerate(NAMES):
        key = (kits / name / "consilium" / "identity.key").read_bytes()
        seed = same_seeds(3)[number]()
        found |= {f"{name} key": key, f"{name} key, hex": key.hex().encode()}
        found |= {f"{name} key, text": base64.b64encode(key).rstrip(b"=")}
        found |= {f"{name} seed": seed, f"{name} seed, hex": seed.hex().encode()}
        found |= {f"{name} TLS": tls_body(kits / name / "startup" / "client.key")}
    pixels = made_up_arrays()["train_images"][0]
    found |= {"pixels": pixels.tobytes(), "pixels, text": str(pixels.tolist()).encode()[:40]}
    return found | {"coordinator TLS": tls_body(kits / "coordinator" / "startup" / "server.key")}


def tls_body(path: Path) -> bytes:
    return path.read_bytes().splitlines()[2]


def test_no_secret_is_in_any_log_or_number(machines: Machines, ports: dict[str, int]) -> None:
    where = written(machines)
    for name, port in ports.items():
        where[Path(name)] = "".join(map(str, numbers(port))).encode()

    assert len(where) >= 3 * len(PARTIES)
    leaks = [
        (what, str(path))
        for what, secret in secrets_of(machines).items()
        for path, text in where.items()
        if secret in text
    ]
    assert leaks == []


# -- A second start by mistake --------------------------------------------------------


def test_a_party_that_is_started_twice_is_refused(machines: Machines) -> None:
    kits = machines.folder / "kits"

    coordinator = command("coordinator", "serve", str(kits / "coordinator"))
    site = command("site", "join", str(kits / "a"), *FREELY)

    for found, name in ((coordinator, "coordinator"), (site, "a")):
        assert found.returncode == 2
        pid = machines.running[name].pid
        assert f"kit {name} is already served by process {pid}" in found.stderr


# -- New certificates, a site that is shut out, and a new one -------------------------


def copy_over(machines: Machines) -> None:
    """Does what the commands tell the parties to do."""
    for change in (machines.folder / "changes").iterdir():
        shutil.copytree(change, machines.kit(change.name), dirs_exist_ok=True)


def compare_roster(machines: Machines, name: str) -> None:
    """Does what a steward does who has heard the same fingerprint from the others."""
    kit = str(machines.kit(name))
    shown = json.loads(command("site", "trust", kit, "--json").stdout)
    assert shown["roster"] == ["a", "b", "d"]
    assert command("site", "trust", kit, shown["fingerprint"]).returncode == 0


@pytest.mark.slow
def test_a_run_goes_on_with_new_certificates_and_another_site(
    machines: Machines, ports: dict[str, int], tmp_path: Path
) -> None:
    own = {path: path.read_bytes() for path in machines.folder.glob("kits/*/consilium/*/*.jsonl")}
    keys = {path: path.read_bytes() for path in machines.folder.glob("kits/*/startup/*.key")}
    for name in list(machines.running):
        machines.kill(name)
        (machines.folder / f"{name}.log").write_bytes(b"")
    for words in (("renew",), ("remove", "c"), ("add", "d")):
        assert command("federation", words[0], str(machines.folder), *words[1:]).returncode == 0
        copy_over(machines)

    start(machines, "coordinator", ports)
    until(lambda: machines.said("coordinator", "Server started"))
    for name in ("a", "b", "c", "d"):
        start(machines, name, {**ports, "d": free_port()})
    until(lambda: all(machines.said(name, REGISTERED) for name in ("a", "b", "d")), 300)
    first = make_run(tmp_path / "first", ARM, {**OWN, "training.rounds": "2"})
    with pytest.raises(RoundAborted, match="too few sites"):  # nobody compared this roster
        train_there(first, machines.kit("researcher"), lambda _seen: None)
    for name in ("a", "b"):
        compare_roster(machines, name)
    run = make_run(tmp_path / "there", ARM, {**OWN, "training.rounds": "2"})
    result = train_there(run, machines.kit("researcher"), lambda _seen: None)

    assert (result.rounds, [site.name for site in result.sites]) == (2, ["a", "b", "d"])
    assert machines.said("coordinator", "Reject disabled client registration: c")
    assert not machines.said("c", REGISTERED)
    assert own
    assert all(path.read_bytes() == before for path, before in own.items())
    assert not any(path.read_bytes() == before for path, before in keys.items())

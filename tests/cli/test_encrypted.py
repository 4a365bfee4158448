# SPDX-License-Identifier: Apache-2.0
"""Encrypted inference from the command line, end to end, with three operators as processes; and
what `consilium infer` says where something is wrong."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from tests.adapters.inference.parties import free_port
from tests.data.made import dicom, encoded, picture, saved

ROOT: Final = Path(__file__).parents[2]
PATIENT: Final = "Erika Mustermann"
PROJECT: Final = """
name = "tiny"
[data]
source = "digits"
privacy_unit = "record"
[sites]
count = 3
[model]
name = "small-cnn-relu"
[training]
rounds = 2
[dp]
target_epsilon = 8.0
delta = 1e-4
expected_batch = 200
"""


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", "from consilium.cli.app import main; main()", *words]


def environment(folder: Path) -> dict[str, str]:
    own = {"PYTHONPATH": str(ROOT / "src"), "XDG_CONFIG_HOME": str(folder / "config")}
    return {**os.environ, **own, "OMP_NUM_THREADS": "1"}


def run(folder: Path, *words: str, seconds: float = 100.0) -> subprocess.CompletedProcess[str]:
    """Returns what a command did, which must end in time."""
    return subprocess.run(  # noqa: S603 - our own command line
        command(*words),
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@dataclass(slots=True)
class Service:
    """A folder with a run, kits, and pictures; three operators are up; a model is published."""

    folder: Path
    publication: str

    def infer(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run(self.folder, "infer", *words, "--operators", "kits")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    (folder / "tiny.toml").write_text(PROJECT)
    done = run(folder, "train", "tiny.toml", "--out", "run")
    assert done.returncode == 0, done.stderr
    ports = [f"127.0.0.1:{free_port()}:{free_port()}" for _ in (0, 1)]
    words = ("inference", "setup", "kits", "--first", ports[0], "--second", ports[1])
    assert run(folder, *words).returncode == 0
    operators = [start(folder, party) for party in (0, 1, 2)]
    try:
        yield Service(folder, published(folder))
    finally:
        for one in operators:
            one.terminate()
        for one in operators:
            one.wait(20)


def start(folder: Path, party: int) -> subprocess.Popen[bytes]:
    kit = ("operator-0", "operator-1", "dealer")[party]
    words = ("inference", "operator", "--party", str(party), "--kit", f"kits/{kit}")
    with (folder / f"{kit}.log").open("wb") as log:
        return subprocess.Popen(  # noqa: S603 - our own command line
            command(*words, "--stock", "20"),
            cwd=folder,
            env=environment(folder),
            stderr=log,
            stdout=log,
        )


def published(folder: Path) -> str:
    """Returns the publication, tried until the operators listen."""
    end = time.monotonic() + 90
    while True:
        words = ("inference", "publish", "run", "--kit", "kits/owner", "--kind", "none", "--json")
        done = run(folder, *words)
        if done.returncode == 0:
            return str(json.loads(done.stdout)["publication"])
        assert "does not answer" in done.stderr, done.stderr
        assert time.monotonic() < end, done.stderr


def pictures(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for seed, name in enumerate(names):
        (folder / name).write_bytes(encoded(picture(seed, side=16), "PNG"))


pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def test_a_picture_and_a_dicom_object_are_answered(service: Service) -> None:
    pictures(service.folder, "scan.png")
    pixels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    (service.folder / "scan.dcm").write_bytes(saved(dicom(pixels, PatientName=PATIENT)))

    done = service.infer("scan.png", "scan.dcm")

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["scan.png", "scan.dcm"]
    assert all(line.split(": ")[1] in "0123456789" for line in lines[:2])
    assert "rounds" in lines[2]
    assert lines[-1] == "Not a diagnosis: ask a physician."
    assert PATIENT not in done.stdout + done.stderr


def test_json_has_classes_seconds_bytes_and_rounds(service: Service) -> None:
    pictures(service.folder, "scan.png")

    done = service.infer("scan.png", "--mode", "encrypted", "--json")

    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    (batch,) = said["batches"]
    assert said["model"] == "tiny"
    assert said["unanswered"] == []
    assert batch["images"][0]["class"] in "0123456789"
    assert len(batch["images"][0]["logits"]) == 10
    for name in ("online_seconds", "offline_seconds", "bytes", "rounds", "uploaded", "seconds"):
        assert batch[name] > 0, name


def test_a_folder_is_asked_in_batches_and_a_damaged_file_is_named(service: Service) -> None:
    clinic = service.folder / "clinic"
    pictures(clinic, *(f"{k:02d}.png" for k in range(18)))
    (clinic / "03.png").write_bytes(encoded(picture(3), "PNG")[:90])
    (clinic / "notes.txt").write_text(PATIENT)

    done = service.infer("clinic", "--json")

    assert done.returncode == 2
    said = json.loads(done.stdout)
    answered = [one["file"] for batch in said["batches"] for one in batch["images"]]
    assert answered == [f"{k:02d}.png" for k in range(18) if k != 3]
    assert [one["file"] for one in said["unanswered"]] == ["03.png"]
    assert "1 of 18 files have no answer" in done.stderr
    assert PATIENT not in done.stdout + done.stderr


def test_what_is_wrong_is_said_with_exit_code_2(service: Service) -> None:
    (service.folder / "letter.png").write_text(PATIENT)
    pictures(service.folder, "scan.png")

    for words, expected in (
        (("letter.png",), "letter.png: wrong extension; expected one of"),
        (("gone.png",), "gone.png cannot be read"),
        (("scan.png", "--model", "other"), "0 models fit other; the operators offer tiny"),
        (("scan.png", "--mode", "plain"), "mode 'plain', expected encrypted"),
    ):
        done = service.infer(*words)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("consilium: ")
        assert expected in done.stderr
        assert PATIENT not in done.stderr


def test_a_false_publication_or_kit_is_refused(service: Service) -> None:
    for words, expected in (
        (("revoke", "zz", "--kit", "kits/owner"), "64 hexadecimal digits"),
        (("revoke", "ab" * 32, "--kit", "kits/owner"), "no such model here"),
        (("revoke", service.publication, "--kit", "kits/dealer"), "dealer may not ask for Revoke"),
        (
            ("publish", "run", "--kit", "kits/owner", "--kind", "none", "--ring", "33"),
            "expected one of (32, 40",
        ),
        (("setup", "kits", "--first", "a:1:2", "--second", "b:1:2"), "is there already"),
        (("setup", "new", "--first", "a:1", "--second", "b:1:2"), "expected HOST:LINK:HTTPS"),
    ):
        done = run(service.folder, "inference", *words)
        assert done.returncode == 2, done.stdout
        assert expected in done.stderr


def test_another_authority_is_not_believed(service: Service) -> None:
    words = ("inference", "setup", "strange", "--first", "a:1:2", "--second", "b:1:2")
    run(service.folder, *words)
    place = service.folder / "mixed"
    place.mkdir(exist_ok=True)
    (place / "operators.json").write_bytes((service.folder / "kits/operators.json").read_bytes())
    (place / "authority.pem").write_bytes((service.folder / "strange/authority.pem").read_bytes())
    pictures(service.folder, "scan.png")

    done = run(service.folder, "infer", "scan.png", "--operators", "mixed")

    assert done.returncode == 2
    assert "operator 0 does not answer" in done.stderr


def test_a_revoked_model_is_refused(service: Service) -> None:
    """The last of this file: nobody is served after it."""
    pictures(service.folder, "scan.png")

    done = run(service.folder, "inference", "revoke", service.publication, "--kit", "kits/owner")
    after = service.infer("scan.png")

    assert (done.returncode, done.stdout) == (0, "revoked at both operators\n")
    assert after.returncode == 2
    assert "the operators offer none" in after.stderr
    for log in service.folder.glob("*.log"):
        assert "Traceback" not in log.read_text()

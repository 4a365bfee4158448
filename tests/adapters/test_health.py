# SPDX-License-Identifier: Apache-2.0
"""A run's small file: what is counted, that epsilon is never too low, that no text gets in."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.adapters.conftest import make_project

from consilium.adapters import health
from consilium.adapters.dataset import Dataset, make_ready, public_facts
from consilium.adapters.health import ERRORS, KINDS, OTHER, Health, HealthFile, read_health
from consilium.adapters.stage import epsilon_after
from consilium.errors import BudgetExceeded, RoundAborted
from consilium.federation.setup import Setup, make_setup


class Clock:
    """A clock that is moved by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def setup(digits: Dataset) -> Setup:
    project = make_project({"training.rounds": "60"})
    ready = make_ready(project.for_arm("federated-dp"), digits, federated=True, seed=0)
    facts, identities = public_facts(ready), tuple(bytes([k]) * 32 for k in range(4))
    return make_setup(project, "federated-dp", facts, identities, 0)


def test_a_party_that_never_ran_is_idle(tmp_path: Path) -> None:
    assert read_health(tmp_path / "none.json") == Health()


@pytest.mark.parametrize("junk", [b"", b"{", b'{"round": "x"}', b'{"of": "another release"}'])
def test_a_file_that_cannot_be_read_is_idle(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "health.json").write_bytes(junk)

    assert read_health(tmp_path / "health.json").standing == "idle"


def test_time_is_divided_among_phases(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "health.json"
    file = HealthFile(path, clock)

    for phase, seconds in (("computing", 3.0), ("opening", 1.0), ("computing", 4.0)):
        file.enters(phase)  # type: ignore[arg-type] # of the list
        clock.now += seconds
    file.ends("finished")

    assert read_health(path).seconds == {"waiting": 0.0, "computing": 7.0, "opening": 1.0}
    assert read_health(path).standing == "finished"


def test_a_clock_that_is_set_back_costs_no_time(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "health.json"
    file = HealthFile(path, clock)

    clock.now -= 600
    file.enters("computing")

    assert read_health(path).seconds == {"waiting": 0.0}


def test_bytes_are_counted_by_way_and_kind(tmp_path: Path) -> None:
    file = HealthFile(tmp_path / "health.json")

    for way, kind in (("in", "Upload"), ("in", "Upload"), ("out", "Upload"), ("in", "Eve")):
        file.passed(way, kind, 5)  # type: ignore[arg-type] # of the list
    file.enters("looking")

    seen = read_health(tmp_path / "health.json").bytes
    assert seen == {"in/Upload": 10, "out/Upload": 5, f"in/{OTHER}": 5}


def test_epsilon_is_never_below_what_was_charged(tmp_path: Path, setup: Setup) -> None:
    file = HealthFile(tmp_path / "health.json")
    file.expects(setup)

    for count in range(1, 31):
        file.charged(count, count)
        shown, spent = read_health(tmp_path / "health.json").epsilon, epsilon_after(setup, count)
        assert shown is not None
        assert spent is not None
        assert shown >= spent


def test_epsilon_is_exact_at_the_end(tmp_path: Path, setup: Setup) -> None:
    file = HealthFile(tmp_path / "health.json")
    file.expects(setup)
    file.charged(1, 1)
    file.charged(2, 2)

    file.ends("finished")

    assert read_health(tmp_path / "health.json").epsilon == epsilon_after(setup, 2)


def test_epsilon_is_exact_where_rounds_are_long(
    tmp_path: Path, setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_SHORT", -1.0)
    file = HealthFile(tmp_path / "health.json")
    file.expects(setup)

    file.charged(1, 1)
    file.charged(2, 2)

    assert read_health(tmp_path / "health.json").epsilon == epsilon_after(setup, 2)


def test_a_full_disk_does_not_stop_a_run(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    file = HealthFile(tmp_path / "gone" / "health.json")
    (tmp_path / "gone" / "health.json").unlink()
    (tmp_path / "gone").rmdir()

    file.enters("computing")

    assert not (tmp_path / "gone").exists()


def test_an_error_is_noted_by_its_kind_only(tmp_path: Path) -> None:
    file = HealthFile(tmp_path / "health.json")

    file.failed(BudgetExceeded("patient Erika Mustermann"))

    assert read_health(tmp_path / "health.json").error == "BudgetExceeded"
    assert b"Erika" not in (tmp_path / "health.json").read_bytes()


def test_an_error_of_a_deeper_kind_counts_as_ours() -> None:
    class Deeper(RoundAborted):
        pass

    assert health.error_kind(Deeper("x")) == "RoundAborted"
    assert health.error_kind(ValueError("x")) == OTHER


def test_the_lists_are_of_our_types() -> None:
    assert {"Upload", "RoundStart", "Opening", "PlainUpdate", OTHER} <= KINDS
    assert {"ConsiliumError", "AccessDenied", OTHER} <= ERRORS


@given(kind=st.text(), text=st.text())
def test_no_text_becomes_a_kind(
    tmp_path_factory: pytest.TempPathFactory, kind: str, text: str
) -> None:
    path = tmp_path_factory.mktemp("health") / "health.json"
    file = HealthFile(path)

    file.passed("in", kind, 1)
    file.failed(type(kind.replace("\0", "") or "E", (Exception,), {})(text))
    file.enters("computing")

    seen = read_health(path)
    assert {name.partition("/")[2] for name in seen.bytes} <= KINDS
    assert seen.error in ERRORS

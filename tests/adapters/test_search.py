# SPDX-License-Identifier: Apache-2.0
"""A search on small data: what it reads, keeps, prunes, goes on with, and never looks at."""

from pathlib import Path

import pytest
from tests.adapters.conftest import make_project

from consilium.adapters import search as searching
from consilium.adapters import stage, training
from consilium.adapters.dataset import Dataset
from consilium.adapters.search import Search, search
from consilium.adapters.stage import Observer, Run
from consilium.errors import ConfigError, DataError, PrivacyError
from consilium.federation.project import parse_project
from consilium.federation.results import RunResult
from consilium.federation.search_space import parse_space

SPACE = ("learning_rate.initial=log:0.001..1", "training.average_decay=0.0|0.5")
CHANGES = {"training.rounds": "2", "training.evaluate_every": "1"}


def asked(
    folder: Path,
    trials: int = 3,
    arm: str = "central",
    changes: dict[str, str] | None = None,
    twin: str | None = None,
) -> Search:
    return Search(
        project=make_project(CHANGES | (changes or {})),
        arm=arm,
        space=parse_space(SPACE),
        trials=trials,
        folder=folder,
        public_twin=twin,
    )


def test_the_best_settings_are_a_project_of_their_own(tmp_path: Path) -> None:
    wanted = asked(tmp_path, trials=4)

    found = search(wanted)

    best = parse_project(wanted.project.resolved(), found.best).for_arm("central")
    assert (found.whole, found.importances) == (4, {})
    assert 0.001 <= best.learning_rate.initial <= 1
    assert best.training.average_decay in (0.0, 0.5)
    assert 0.5 < found.score <= 1


def test_importances_add_up_once_there_are_enough_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "_BEFORE_PRUNING", 100)

    found = search(asked(tmp_path, trials=8))

    assert set(found.importances) == {"learning_rate.initial", "training.average_decay"}
    assert sum(found.importances.values()) == pytest.approx(1)


def test_a_search_goes_on_where_it_stopped(tmp_path: Path) -> None:
    first = search(asked(tmp_path, trials=2))

    second = search(asked(tmp_path, trials=3))
    third = search(asked(tmp_path, trials=3))

    assert first.whole + first.pruned == 2
    assert second.whole + second.pruned == 3
    assert third == second
    assert second.score >= first.score


def test_another_search_is_refused_in_the_same_folder(tmp_path: Path) -> None:
    search(asked(tmp_path, trials=1))

    with pytest.raises(ConfigError, match="holds another search"):
        search(asked(tmp_path, trials=1, changes={"training.local_batch": "32"}))


def test_no_trial_looks_at_the_test_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looked(*_: object) -> None:
        raise AssertionError("a trial looked at the test records")

    monkeypatch.setattr(stage, "_test", looked)
    monkeypatch.setattr(training, "leave_behind", looked)

    assert search(asked(tmp_path, trials=1)).whole == 1


def test_hopeless_trials_are_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "_BEFORE_PRUNING", 1)
    told: list[float | None] = []
    wanted = asked(tmp_path, trials=6)
    wanted = Search(
        project=wanted.project,
        arm=wanted.arm,
        space=wanted.space,
        trials=6,
        folder=tmp_path,
        told=lambda _number, _settings, score: told.append(score),
    )

    found = search(wanted)

    assert found.pruned >= 1
    assert (len(told), told.count(None)) == (6, found.pruned)


def test_a_private_arm_is_searched_on_a_twin_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    real = training.train_arm

    def noted(run: Run, dataset: Dataset, observer: Observer) -> RunResult:
        seen.append(run.project.data.source)
        return real(run, dataset, observer)

    monkeypatch.setattr(searching, "train_arm", noted)
    missing = {"data.source": "missing.npz"}
    wanted = asked(tmp_path, trials=1, arm="federated-dp", changes=missing, twin="digits")

    found = search(wanted)

    assert seen == ["digits"]
    assert found.cost.startswith("The search read digits and no record of missing.npz")


def test_a_private_arm_without_a_twin_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    wanted = asked(tmp_path / "s", arm="federated-dp", changes={"data.source": "missing.npz"})

    with pytest.raises(PrivacyError, match="expected --public-twin SOURCE"):
        search(wanted)

    assert not (tmp_path / "s").exists()


def test_settings_that_fail_every_time_are_said_to(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="2 trials failed and none came to its end"):
        search(asked(tmp_path, trials=2, changes={"model.name": "squeezenet"}))


def test_a_missing_source_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        search(asked(tmp_path, changes={"data.source": "missing.npz"}))


def test_patience_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stopping\.patience is set"):
        search(asked(tmp_path, changes={"stopping.patience": "2"}))


def test_a_setting_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    wanted = Search(
        project=make_project(CHANGES),
        arm="central",
        space=parse_space(["training.epochs=int:1..2"]),
        trials=1,
        folder=tmp_path,
    )

    with pytest.raises(ConfigError, match=r"'training\.epochs', which does not exist; expected"):
        search(wanted)

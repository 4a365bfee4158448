# SPDX-License-Identifier: Apache-2.0
"""One run of one arm: what it leaves, how it goes on after a crash, and what stops it early."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from time import sleep

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.adapters.conftest import (
    At,
    Full,
    Note,
    interrupt,
    made_up_arrays,
    make_project,
    make_run,
    same_seeds,
)

from consilium.adapters.dataset import Dataset, read_dataset
from consilium.adapters.ledger_file import FileLedger, count_charges
from consilium.adapters.stage import MODEL, RESULT, NobodyWatches, Run
from consilium.adapters.training import train_arm
from consilium.errors import BudgetExceeded, ConfigError, ConsiliumError, DataError, PrivacyError
from consilium.federation.arms import ARMS
from consilium.federation.ledger import Charge
from consilium.federation.results import RunResult

NOBODY = NobodyWatches()
PRIVATE = [name for name, arm in ARMS.items() if arm.private]


def trained(run: Run, dataset: Dataset) -> RunResult:
    """Returns the result of a run with the same randomness every time."""
    return train_arm(run, dataset, NOBODY, same_seeds())


def model(run: Run) -> bytes:
    """Returns the file that holds the run's model."""
    return (run.folder / MODEL).read_bytes()


def weights(run: Run) -> bytes:
    """Returns the bytes of the tensors in that file."""
    return b"".join(tensor.tobytes() for tensor in load_file(run.folder / MODEL).values())


def ledgers(run: Run) -> list[Path]:
    """Returns the ledgers of the run's sites."""
    return sorted((run.folder / "ledger").iterdir())


def charges(run: Run) -> list[int]:
    """Returns the charges in the ledger of each site."""
    return [count_charges(path) for path in ledgers(run)]


def worst_epsilon(result: RunResult) -> float:
    """Returns the largest epsilon of a result's statement."""
    return max(guarantee.epsilon for guarantee in result.statement.guarantees)


# -- What a run leaves ----------------------------------------------------------------


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_trains_and_leaves_its_files(tmp_path: Path, digits: Dataset, arm: str) -> None:
    run = make_run(tmp_path / "run", arm)

    result = train_arm(run, digits, NOBODY)

    kept = msgspec.json.decode((run.folder / RESULT).read_bytes(), type=RunResult)
    assert kept == result
    assert (result.arm, result.rounds, result.reason) == (arm, 4, "all rounds are done")
    assert charges(run) == [4] * len(result.sites)
    assert result.statement.private is ARMS[arm].private
    assert result.traffic.total == result.traffic.predicted_total
    assert [point.round for point in result.curve] == [2, 4]
    assert result.test.accuracy > 0.2
    assert sorted(file.name for file in run.folder.iterdir()) == [
        "checkpoint.safetensors",
        "ledger",
        MODEL,
        RESULT,
    ]


def test_the_model_is_whole_with_its_fixed_layers(tmp_path: Path, digits: Dataset) -> None:
    run = make_run(tmp_path / "run", "central", {"model.name": "wavelet", "training.rounds": "1"})

    result = train_arm(run, digits, NOBODY)

    sizes = [tensor.size for tensor in load_file(run.folder / MODEL).values()]
    assert sum(sizes) > result.parameters > 0


@pytest.mark.parametrize("arm", PRIVATE)
def test_recorded_randomness_gives_the_same_model(
    tmp_path: Path, digits: Dataset, arm: str
) -> None:
    first, second = (make_run(tmp_path / name, arm, {"training.rounds": "1"}) for name in "12")

    trained(first, digits)
    trained(second, digits)

    assert model(first) == model(second)


@pytest.mark.parametrize("arm", ["central-dp", "federated-dp"])
def test_the_randomness_of_people_is_never_seeded(
    tmp_path: Path, digits: Dataset, arm: str
) -> None:
    first, second = (make_run(tmp_path / name, arm, {"training.rounds": "1"}) for name in "12")

    train_arm(first, digits, NOBODY)
    train_arm(second, digits, NOBODY)

    assert model(first) != model(second)


def test_the_observer_sees_every_round_once(tmp_path: Path, digits: Dataset) -> None:
    seen = Note()

    result = train_arm(make_run(tmp_path / "run", "federated"), digits, seen)

    assert seen.rounds == [1, 2, 3, 4]
    assert seen.ended == [result]
    assert seen.began[0].round == 0


def test_a_folder_that_holds_something_is_refused(tmp_path: Path, digits: Dataset) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(ConfigError, match="already holds a run; expected an empty one"):
        train_arm(make_run(tmp_path, "federated"), digits, NOBODY)

    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


# -- Stopping early -------------------------------------------------------------------


def test_a_run_stops_before_the_step_that_would_exceed_the_budget(
    tmp_path: Path, digits: Dataset
) -> None:
    short = make_run(tmp_path / "1", "federated-dp", {"training.rounds": "3"})
    as_far = trained(short, digits)
    budget = {"stopping.budget_epsilon": str(worst_epsilon(as_far))}  # of 4 rounds it pays 3
    limited = make_run(tmp_path / "2", "federated-dp", budget)

    result = trained(limited, digits)

    assert result.reason == "the next step would exceed the privacy budget"
    assert (result.rounds, result.statement.steps_allowed) == (3, 3)
    assert worst_epsilon(result) == worst_epsilon(as_far)
    assert weights(limited) == weights(short)


def test_patience_ends_a_run_with_its_best_model(tmp_path: Path, digits: Dataset) -> None:
    changes = {
        "stopping.patience": "2",
        "training.evaluate_every": "1",
        "training.rounds": "40",
        "learning_rate.initial": "1.0",
    }
    run = make_run(tmp_path / "run", "central", changes)

    result = train_arm(run, digits, NOBODY)

    scores = [point.auc or 0 for point in result.curve]
    assert result.reason == "no better validation score within the patience"
    assert result.rounds < 40
    assert scores.index(max(scores)) == len(scores) - 3


# -- Going on -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> Run:
    run = make_run(tmp_path_factory.mktemp("whole") / "run", "federated")
    train_arm(run, digits, NOBODY)
    return run


@pytest.mark.parametrize("round_", [1, 3, 4])
def test_an_interrupted_run_ends_with_the_same_model(
    tmp_path: Path, digits: Dataset, whole: Run, round_: int
) -> None:
    run = make_run(tmp_path / "run", "federated")

    with pytest.raises(KeyboardInterrupt):
        train_arm(run, digits, At(round_, interrupt))
    assert not (run.folder / RESULT).exists()
    result = train_arm(replace(run, resume=True), digits, NOBODY)

    assert model(run) == model(whole)
    assert (result.rounds, charges(run)) == (4, charges(whole))


def test_a_resumed_run_reports_only_its_own_rounds(tmp_path: Path, digits: Dataset) -> None:
    run, seen = make_run(tmp_path / "run", "federated"), Note()
    with pytest.raises(KeyboardInterrupt):
        train_arm(run, digits, At(2, interrupt))

    result = train_arm(replace(run, resume=True), digits, seen)

    assert seen.began[0].round == 2
    assert seen.rounds == [3, 4]
    assert result.traffic.total == result.traffic.predicted_total


def test_a_finished_run_is_not_trained_again(tmp_path: Path, digits: Dataset) -> None:
    run, seen = make_run(tmp_path / "run", "federated-dp"), Note()
    result = train_arm(run, digits, NOBODY)

    again = train_arm(replace(run, resume=True), digits, seen)

    assert again == result
    assert (seen.began, charges(run)) == ([], [4, 4, 4, 4])


def test_a_run_that_was_never_begun_begins(tmp_path: Path, digits: Dataset) -> None:
    run = replace(make_run(tmp_path / "new", "federated"), resume=True)

    assert train_arm(run, digits, NOBODY).rounds == 4


@pytest.fixture
def lossy(tmp_path: Path, digits: Dataset) -> Run:
    """A run that was killed after every site had paid for a third round that nobody saw."""
    run = make_run(tmp_path / "lossy", "federated-dp", {"training.rounds": "6"})
    with pytest.raises(KeyboardInterrupt):
        train_arm(run, digits, At(2, interrupt), same_seeds())
    for site, path in enumerate(ledgers(run)):
        ledger = FileLedger(path, allowed=None)
        ledger.append(Charge(site=site, round=3, terms=run.project.terms(run.arm), mechanism="x"))
        ledger.close()
    return replace(run, resume=True)


def test_a_charge_that_was_lost_stays_charged(lossy: Run, digits: Dataset) -> None:
    result = trained(lossy, digits)

    assert (result.rounds, result.attempts, charges(lossy)) == (5, 6, [6, 6, 6, 6])
    assert result.reason == "the next step would exceed the privacy budget"


def test_the_statement_counts_all_charges(tmp_path: Path, lossy: Run, digits: Dataset) -> None:
    whole = trained(
        Run(project=lossy.project, arm=lossy.arm, seed=0, folder=tmp_path / "w"), digits
    )

    result = trained(lossy, digits)

    assert result.statement.steps_charged == 6 > result.rounds
    assert worst_epsilon(result) >= worst_epsilon(whole)
    assert [point.epsilon for point in result.curve][-1] == worst_epsilon(result)


def test_a_run_whose_budget_is_spent_returns_its_last_model(lossy: Run, digits: Dataset) -> None:
    for site, path in enumerate(ledgers(lossy)):
        ledger = FileLedger(path, allowed=None)
        for number in (4, 5, 6):
            charge = Charge(site=site, round=number, terms=b"t" * 32, mechanism="x")
            ledger.append(charge)
        ledger.close()

    result = trained(lossy, digits)

    assert (result.rounds, result.attempts, result.statement.steps_charged) == (2, 6, 6)


# -- Killed ---------------------------------------------------------------------------


def killed(context: ForkServerContext, run: Run, dataset: Dataset, *, size: int) -> None:
    """Trains in a process and kills it when the last site's ledger holds `size` bytes."""
    process = context.Process(target=train_arm, args=(run, dataset, NOBODY))
    process.start()
    last = run.folder / "ledger" / "site-4.jsonl"
    while process.is_alive() and not (last.exists() and last.stat().st_size > size):
        sleep(0.0005)
    process.kill()
    process.join()
    process.close()


KILLED = {"training.rounds": "12", "training.evaluate_every": "3"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> Run:
    run = make_run(tmp_path_factory.mktemp("whole") / "run", "federated", KILLED)
    train_arm(run, digits, NOBODY)
    return run


def test_a_killed_run_goes_on_to_the_same_model(
    tmp_path: Path, digits: Dataset, undisturbed: Run, fork_server: ForkServerContext
) -> None:
    run = make_run(tmp_path / "run", "federated", KILLED)

    killed(fork_server, run, digits, size=1)
    killed(fork_server, replace(run, resume=True), digits, size=2000)
    assert not (run.folder / RESULT).exists()
    result = train_arm(replace(run, resume=True), digits, NOBODY)

    assert model(run) == model(undisturbed)
    assert result.rounds == 12
    assert min(charges(run)) >= 12


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 500, 1400, 3100])
def test_a_run_killed_at_any_moment_goes_on_to_the_same_model(
    tmp_path: Path, digits: Dataset, undisturbed: Run, fork_server: ForkServerContext, size: int
) -> None:
    run = make_run(tmp_path / "run", "federated", KILLED)

    killed(fork_server, run, digits, size=size)
    train_arm(replace(run, resume=True), digits, NOBODY)

    assert model(run) == model(undisturbed)


@pytest.mark.slow
def test_a_killed_private_run_pays_for_what_was_lost(
    tmp_path: Path, digits: Dataset, fork_server: ForkServerContext
) -> None:
    run = make_run(tmp_path / "run", "federated-dp", KILLED)

    killed(fork_server, run, digits, size=1)
    killed(fork_server, replace(run, resume=True), digits, size=2000)
    result = train_arm(replace(run, resume=True), digits, NOBODY)

    assert result.statement.steps_charged == max(charges(run)) <= 12
    assert 10 <= result.rounds <= result.attempts <= 12
    assert worst_epsilon(result) == epsilon_of(digits, tmp_path, max(charges(run)))


def epsilon_of(dataset: Dataset, folder: Path, steps: int) -> float:
    """Returns the price of so many steps in a run that nobody disturbed."""
    changes = {**KILLED, "training.rounds": str(steps)}
    return worst_epsilon(
        train_arm(make_run(folder / "e", "federated-dp", changes), dataset, NOBODY)
    )


# -- Full disks -----------------------------------------------------------------------


@pytest.mark.parametrize("syncs", [0, 8, 11, 15, 22, 34, 36])
def test_a_full_disk_leaves_no_result_and_can_be_resumed(
    tmp_path: Path, digits: Dataset, whole: Run, full_after: Full, syncs: int
) -> None:
    run = make_run(tmp_path / "run", "federated")

    with full_after(syncs), pytest.raises(OSError, match=r"^\[Errno 28\] No space left"):
        train_arm(run, digits, NOBODY)
    assert not (run.folder / RESULT).exists()
    train_arm(replace(run, resume=True), digits, NOBODY)

    assert model(run) == model(whole)


# -- Refused --------------------------------------------------------------------------


def stopped(folder: Path, dataset: Dataset, changes: Mapping[str, str]) -> Run:
    """Returns a run that was interrupted after two rounds, to be resumed."""
    run = make_run(folder, "federated", changes)
    with pytest.raises(KeyboardInterrupt):
        train_arm(run, dataset, At(2, interrupt))
    return replace(run, resume=True)


OTHERS: dict[str, Callable[[Run], Run]] = {
    "project": lambda run: replace(run, project=make_project({"training.rounds": "5"})),
    "arm": lambda run: replace(run, arm="federated-dp"),
    "seed": lambda run: replace(run, seed=1),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_checkpoint_of_another_run_is_refused(
    tmp_path: Path, digits: Dataset, other: str
) -> None:
    run = stopped(tmp_path / "run", digits, {})

    with pytest.raises(ConfigError, match="another project, data, arm or seed"):
        train_arm(OTHERS[other](run), digits, NOBODY)


@pytest.mark.parametrize("other", OTHERS)
def test_a_result_of_another_run_is_refused(tmp_path: Path, digits: Dataset, other: str) -> None:
    run = make_run(tmp_path / "run", "federated")
    train_arm(run, digits, NOBODY)

    with pytest.raises(ConfigError, match=r"holds a result of another project, arm or seed; exp"):
        train_arm(replace(OTHERS[other](run), resume=True), digits, NOBODY)


def test_a_damaged_result_is_refused(tmp_path: Path, digits: Dataset) -> None:
    run = make_run(tmp_path / "run", "federated")
    train_arm(run, digits, NOBODY)
    (run.folder / RESULT).write_bytes((run.folder / RESULT).read_bytes()[:-9])

    with pytest.raises(DataError, match=r"result\.json of run cannot be read; expected a result"):
        train_arm(replace(run, resume=True), digits, NOBODY)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path, digits: Dataset) -> None:
    run = stopped(tmp_path / "run", digits, {})
    os.truncate(run.folder / "checkpoint.safetensors", 1000)

    with pytest.raises(DataError, match=r"^checkpoint .* cannot be read"):
        train_arm(run, digits, NOBODY)


def test_a_tampered_ledger_is_refused(tmp_path: Path, digits: Dataset) -> None:
    run = stopped(tmp_path / "run", digits, {})
    path = ledgers(run)[1]
    path.write_bytes(path.read_bytes().replace(b'"round":1', b'"round":3'))

    with pytest.raises(DataError, match=r"^ledger site-2\.jsonl: line 1 does not continue"):
        train_arm(run, digits, NOBODY)


def test_rounds_that_nobody_paid_for_are_refused(tmp_path: Path, digits: Dataset) -> None:
    run = stopped(tmp_path / "run", digits, {})
    for path in ledgers(run)[:2]:
        path.unlink()

    with pytest.raises(DataError, match=r"hold 4 charges; expected at least 6, for 2 rounds"):
        train_arm(run, digits, NOBODY)


def test_other_data_than_at_the_beginning_are_refused(tmp_path: Path) -> None:
    archive, changes = tmp_path / "d.npz", {"data.source": "d.npz", "sites.count": "3"}
    np.savez(archive, allow_pickle=False, **made_up_arrays())
    data = make_project(changes).data
    run = stopped(tmp_path / "run", read_dataset(data, tmp_path), changes)
    arrays = made_up_arrays()
    larger = {
        k: np.pad(v, ((0, 0), (0, 1), (0, 0))) if v.ndim == 3 else v for k, v in arrays.items()
    }
    np.savez(archive, allow_pickle=False, **larger)

    with pytest.raises(ConfigError, match="belongs to another project, data, arm or seed"):
        train_arm(run, read_dataset(data, tmp_path), NOBODY)


IMPOSSIBLE: dict[str, tuple[str, dict[str, str], type[ConsiliumError]]] = {
    "two sites": ("federated", {"sites.count": "2"}, ConfigError),
    "fewer sites than the threshold": ("federated-dp", {"sites.threshold": "5"}, ConfigError),
    "a threshold too low": ("federated", {"sites.threshold": "2"}, ConfigError),
    "all sites curious": ("federated-dp", {"sites.colluders": "3"}, ConfigError),
    "more sites than patients": ("federated", {"sites.count": "700"}, DataError),
    "no site column": ("federated", {"sites.partition": "column"}, DataError),
    "a class missing": ("federated", {"sites.count": "100"}, DataError),
    "a model too large": ("central", {"model.name": "squeezenet"}, ConfigError),
    "not one step": ("central-dp", {"stopping.budget_epsilon": "0.01"}, BudgetExceeded),
    "no protection": ("federated-dp", {"dp.noise_multiplier": "0.01"}, PrivacyError),
    "a delta too large": ("central-dp", {"dp.delta": "0.01"}, PrivacyError),
    "a batch of more than all": ("central-dp", {"dp.expected_batch": "2000"}, ConfigError),
    "noise shares in the open": (
        "federated-dp",
        {"sites.secure_sum": "off-and-the-coordinator-sees-every-update"},
        ConfigError,
    ),
    "a wrong arm": ("federated-pd", {}, ConfigError),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    tmp_path: Path, digits: Dataset, name: str
) -> None:
    arm, changes, error = IMPOSSIBLE[name]

    with pytest.raises(error, match=r"^[^\n]+expected[^\n]+$"):
        train_arm(make_run(tmp_path / "run", arm, changes), digits, NOBODY)

    assert not (tmp_path / "run").exists()


# -- Prices ---------------------------------------------------------------------------


def test_a_curve_without_privacy_has_no_price(tmp_path: Path, digits: Dataset) -> None:
    result = train_arm(make_run(tmp_path / "run", "central"), digits, NOBODY)

    assert [point.epsilon for point in result.curve] == [None, None]
    assert result.statement.guarantees == ()


def test_the_price_of_a_curve_grows_to_that_of_the_statement(
    tmp_path: Path, digits: Dataset
) -> None:
    result = train_arm(make_run(tmp_path / "run", "federated-dp"), digits, NOBODY)

    first, last = (point.epsilon or 0 for point in result.curve)
    assert 0 < first < last == worst_epsilon(result)

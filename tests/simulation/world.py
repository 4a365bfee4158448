# SPDX-License-Identifier: Apache-2.0
"""One history: real parties with real files, and a network, clocks and scheduling that are not.

Real: `conduct`, `run_concurrent`, `SiteSession`, both runners and state machines, file ledgers,
checkpoints, rolls, results. Not real: threads, queues, clocks, randomness and sync
(`kernel.py`, `disk.py`, `stand_ins.py`), and the lines between the parties (`network.py`). Site
processes live as long as their job, as in the engine between machines: an operator starts a job
anew until the run is finished.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final, final

from safetensors.torch import load_file
from tests.simulation.disk import Disk, no_space
from tests.simulation.kernel import Kernel, Process, SimQueue
from tests.simulation.network import Line, Network
from tests.simulation.parties import RUN, Job, SiteProcess, call_of, dataset_of, identity
from tests.simulation.script import (
    COORDINATOR,
    FULL,
    KILL,
    OPERATOR,
    OTHER_FOLDER,
    POWER,
    SAME_FOLDER,
    SLEEP,
    STOP,
    Fault,
    Script,
)
from tests.simulation.stand_ins import substituted
from tests.simulation.watch import Watch

from consilium import wire
from consilium.adapters import dataset
from consilium.adapters.coordinator_runner import Hooks, RoundReport
from consilium.adapters.federated import Conditions, conduct
from consilium.adapters.site_folder import SiteFolder, SiteSettings
from consilium.adapters.site_session import SiteSession
from consilium.adapters.stage import MODEL, Run
from consilium.errors import ConsiliumError
from consilium.federation import coordinator
from consilium.federation.contribution import Assignment, Trainee, Work, contribute
from consilium.federation.progress import Progress, Validation
from consilium.federation.results import RunResult
from consilium.federation.setup import Setup
from consilium.learning.parameters import Vector, flatten

MOST_JOBS: Final = 20  # that the operator starts


@final
class World:
    """Everything of one history."""

    def __init__(self, script: Script, folder: Path, data: Path) -> None:
        self.script, self.folder, self.data = script, folder, data
        self.random = Random(f"{script.seed} world")  # noqa: S311
        self.kernel = Kernel(Random(f"{script.seed} kernel"))  # noqa: S311
        self.disk = Disk(self.kernel, self.random, self.come_to, self.crash)
        self.watch = Watch(self.disk)
        self.trace: list[str] = []
        self.struck: list[Fault] = []
        self.network = Network(self, self.random)
        self.operator = Process("operator", OPERATOR)
        self.jobs: list[Job] = []
        self._comings = Counter[tuple[str, str]]()
        self._processes = 0
        self.call = call_of(script.arm, script.changes)
        self.result: RunResult | None = None
        self.model = b""  # the released weights

    # -- The whole history ------------------------------------------------------------

    def play(self) -> None:
        with substituted(self):
            for name in self.script.names():
                self._prepare_kit(name)
            self.kernel.spawn(self.operator, self._operate)
            for fault in self.script.faults:
                if fault.party == OPERATOR:
                    self.kernel.spawn(self.operator, partial(self._meddle, fault))
            try:
                self.kernel.run()
            except Exception as error:  # noqa: BLE001 - a planted bug may break anything
                self.watch.complain(f"{type(error).__name__}: {error}")
        for name in self.script.names():
            self.watch.ledger(name, self.ledger(name))
        if self.result is None:
            self.watch.complain("training did not end, and cannot be resumed to its end")

    def _prepare_kit(self, name: str) -> None:
        kit = self.folder / name
        (kit / "consilium").mkdir(parents=True)
        key = kit / "consilium" / "identity.key"
        key.touch(mode=0o600)
        key.write_bytes(identity(name))
        self.watch.secrets.append(identity(name))
        SiteFolder(kit).settle(
            SiteSettings(
                name=name,
                sites=self.script.names(),
                data_folder=str(self.data / name),
                approves="every-project-and-the-researcher-decides",
                trusts="the-first-roster-that-the-coordinator-shows",
            )
        )

    def ledger(self, name: str) -> Path:
        return SiteFolder(self.folder / name).ledger(RUN)

    # -- The operator -----------------------------------------------------------------

    def _operate(self) -> None:
        for _ in range(MOST_JOBS):
            outcome = self._run_job(COORDINATOR)
            if isinstance(outcome, RunResult):
                self.result = outcome
                return
            self.kernel.sleep(self.random.choice((0.5, 5.0, 30.0, 120.0)))

    def _meddle(self, fault: Fault) -> None:
        self.kernel.sleep(float(fault.nth))
        self._strike(fault)
        match fault.what:
            case what if what == SAME_FOLDER:
                self._run_job(COORDINATOR)
            case what if what == OTHER_FOLDER:
                self._run_job("other")
            case what if what == STOP:
                for job in self.jobs:
                    job.stopped = True
            case _:
                raise AssertionError(fault)

    def _run_job(self, machine: str) -> RunResult | str:
        number = len(self.jobs) + 1
        process = Process(f"job {number}", machine)
        job = Job(number, self.folder / machine / "runs" / RUN, process)
        self.jobs.append(job)
        self.note(process.name, f"starts on {machine}")
        for name in self.script.names():
            self.kernel.spawn(self.network.process, partial(self._start_site, job, name))
        over: SimQueue[None] = SimQueue(self.kernel)
        process.on_end.append(lambda: over.put(None))
        self.kernel.spawn(process, lambda: self._conduct(job))
        over.get()
        self.note(process.name, f"ends: {_told(job.outcome)}")
        self.kernel.spawn(self.network.process, lambda: self._end_sites(job))
        return job.outcome or "killed"

    def _conduct(self, job: Job) -> None:
        names, call = self.script.names(), self.call
        run = Run(
            project=call.project,
            arm=call.arm,
            seed=call.seed,
            folder=job.folder,
            data_folder=self.data / COORDINATOR,
        )
        conditions = Conditions(
            quorum_seconds=self.script.quorum_seconds,
            stopped=lambda: job.stopped,
            observer=Eyes(self, job),
        )
        try:
            job.outcome = conduct(call, run, [Line(self, job, name) for name in names], conditions)
        except ConsiliumError as error:
            job.outcome = f"{type(error).__name__}: {error}"
            self.watch.says(str(error))
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            job.outcome = f"{type(error).__name__}: {error}"
            self.watch.complain(f"{job.outcome} leaves the coordinator")
        self.kernel.kill(job.process)

    def _start_site(self, job: Job, name: str) -> None:
        self.kernel.sleep(self.random.uniform(0.0, 0.6))
        if job.outcome is not None or not job.process.alive:
            return
        self._processes += 1
        process = Process(f"{name}.{self._processes}", name)
        session = SiteSession(self.folder / name, self.call, self._source(process.name))
        job.sites[name] = SiteProcess(name, process, session)
        self.note(process.name, f"starts for job {job.number}")

    def _end_sites(self, job: Job) -> None:
        self.kernel.sleep(self.random.choice((0.0, 0.1, 3.0, 15.0)))
        for site in job.sites.values():
            if site.process.alive:
                self.note(site.process.name, "ends with its job")
                site.session.close()
                self.kernel.kill(site.process)

    def _source(self, process: str) -> Callable[[], bytes]:
        counter = iter(range(10**9))

        def fresh() -> bytes:
            secret = wire.digest("simulated secret", self.script.seed, process, next(counter))
            self.watch.secrets.append(secret)
            return secret

        return fresh

    # -- Faults -----------------------------------------------------------------------

    def note(self, who: str, text: str) -> None:
        self.trace.append(f"{self.kernel.now:10.3f} {who:12} {text}")

    def come_to(self, point: str, party: str | None = None) -> Fault | None:
        """Returns what goes wrong now that a party is at this point."""
        party = self.kernel.me().process.machine if party is None else party
        self._comings[party, point] += 1
        nth = self._comings[party, point]
        for fault in self.script.faults:
            if (fault.party, fault.point, fault.nth) == (party, point, nth):
                self._strike(fault)
                return fault
        return None

    def _strike(self, fault: Fault) -> None:
        self.struck.append(fault)
        self.note("! fault", str(fault))

    def at(self, point: str) -> None:
        """The running process is at this point."""
        fault = self.come_to(point)
        match fault:
            case None:
                return
            case Fault(what=what) if what in (KILL, POWER):
                self.crash(fault)
            case Fault(what=what) if what == SLEEP:
                self.kernel.sleep(60.0)
            case Fault(what=what) if what == FULL:
                raise no_space()
            case _:
                raise AssertionError(fault)

    def crash(self, fault: Fault) -> None:
        """Ends the running process, or all of its machine's."""
        own = self.kernel.me().process
        dying = [own]
        if fault.what == POWER:
            dying = [p for p in self._all_processes() if p.machine == own.machine and p.alive]
        for process in dying:
            self._note_return(process)
            if process is not own:
                self.kernel.kill(process)
        if fault.what == POWER:
            self.disk.cut_power(self.folder / own.machine)
        self.kernel.kill(own)

    def _all_processes(self) -> Iterator[Process]:
        for job in self.jobs:
            yield job.process
            yield from (site.process for site in job.sites.values())

    def _note_return(self, process: Process) -> None:
        """A site that was killed comes back some time later."""
        for job in self.jobs:
            for name, site in job.sites.items():
                if site.process is process:
                    self.kernel.spawn(self.network.process, partial(self._return, job, name))

    def _return(self, job: Job, name: str) -> None:
        self.kernel.sleep(self.random.choice((1.0, 8.0, 40.0)))
        self._start_site(job, name)

    # -- What our code calls in place of effects --------------------------------------

    def job_now(self) -> Job:
        process = self.kernel.me().process
        return next(job for job in self.jobs if job.process is process)

    def step(self, state: coordinator.State, event: coordinator.Event) -> coordinator.Outcome:
        self.at(f"in {type(state).__name__}")
        after, commands = coordinator.step(state, event)
        self.watch.steps(self.job_now().lineage, state, event, after)
        return after, commands

    def hooks(self, made: Hooks) -> Hooks:
        def look(round_: int, weights: Vector) -> Validation:
            self.at("look")
            return made.look(round_, weights)

        def save(progress: Progress) -> None:
            self.watch.saves(self.job_now().lineage, progress)
            made.save(progress)
            self.watch.saved_by(self.job_now().lineage, progress)
            self.at("saved")

        return replace(made, look=look, save=save)

    def contribute(
        self,
        trainee: Trainee,
        work: Work,
        assignment: Assignment,
        secret: bytes,
        *team: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401 - a ring
        process = self.kernel.me().process
        self.watch.computes(assignment.weights)
        vector = contribute(trainee, work, assignment, secret, *team)
        for job in self.jobs:
            for site in job.sites.values():
                if site.process is process:
                    site.computed[assignment.round] = vector
        self.kernel.sleep(self.random.uniform(0.01, 0.3))
        self.at("computed")
        return vector


def _told(outcome: RunResult | str | None) -> str:
    if isinstance(outcome, RunResult):
        return f"{outcome.rounds} rounds in {outcome.attempts} attempts, {outcome.reason}"
    return outcome or "killed"


@final
class Eyes:
    """Watches a run as an observer may."""

    def __init__(self, world: World, job: Job) -> None:
        self._world, self._job = world, job

    def begins(self, setup: Setup, seed: int, progress: Progress) -> None:  # noqa: ARG002
        world, job = self._world, self._job
        job.setup, job.lineage = setup, world.watch.goes_on(progress, job.folder)
        world.note(job.process.name, f"begins after {progress.round} of {progress.attempts} rounds")

    def round_done(self, report: RoundReport) -> None:
        """Does nothing."""

    def ends(self, result: RunResult) -> None:
        world, job = self._world, self._job
        assert job.setup is not None
        own = world.call.project.for_arm(world.call.arm)
        shared = dataset_of(own.data, world.data / COORDINATOR)
        ready = dataset.make_ready(own, shared, federated=False, seed=0)
        first = flatten(ready.trained).copy()
        ready.model.load_state_dict(load_file(job.folder / MODEL))
        watch, ledgers = world.watch, [world.ledger(name) for name in world.script.names()]
        world.model = flatten(ready.trained).tobytes()
        watch.ends(job.setup, first, job.lineage, result, flatten(ready.trained))
        watch.stated(job.setup, result, ledgers)

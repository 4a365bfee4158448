# SPDX-License-Identifier: Apache-2.0
"""One site in one run among real sites: from its own records to its answers, bytes in and out.

    enrol() -> its public facts, what its ledger shows
    join(roll) -> its first messages of the secure sum     handle(message) -> its answers

Every engine between machines plays this session in the site's job process. What only concerns
this site (records, key, ledger, consents) is read from its own folder and never sent.
"""

import re
import threading
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Final, final

from consilium import wire
from consilium.adapters.dataset import Dataset, Ready, make_ready, read_named
from consilium.adapters.disks import disk_in_words
from consilium.adapters.health import FILE, HealthFile
from consilium.adapters.ledger_file import FileLedger, count_charges, last_charged
from consilium.adapters.office.permits import ProjectPermit
from consilium.adapters.randomness import Source, operating_system
from consilium.adapters.site_folder import SiteFolder, SiteSettings
from consilium.adapters.site_runner import SiteParts, SiteRunner
from consilium.adapters.site_team import SiteTeam
from consilium.adapters.site_team_line import Blueprint
from consilium.adapters.store.database import open_database
from consilium.adapters.store.ledger_store import LedgerStore
from consilium.adapters.store.site_ledger import Attendance, SiteAccount, purchase_of
from consilium.errors import ConfigError, NotJoined
from consilium.federation.arms import ARMS
from consilium.federation.enrolment import (
    LARGEST,
    ROLL,
    Call,
    Enrolment,
    SiteFacts,
    Standing,
    check_roll,
    enrol,
    place_of,
)
from consilium.federation.ledger import Ledger
from consilium.federation.project import parse_project
from consilium.federation.setup import Setup, make_setup
from consilium.learning.parameters import dimension

_RUN: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")


def make_call(project: str, arm: str, seed: int, run: str) -> Call:
    """Returns the call that a job's settings describe.

    Raises:
        ConfigError: The project cannot be used, needs all data in one place, or the run's name
            is not one.
    """
    if not _RUN.fullmatch(run):
        raise ConfigError(f"run {run!r}; expected lower-case letters, digits and hyphens")
    call = Call(project=parse_project(project), arm=arm, seed=seed, run=run)
    call.project.for_arm(arm)
    if not ARMS[arm].federated:
        raise ConfigError(
            f"arm {arm} needs all records in one place; expected a federated arm: leave "
            "--federation out, or choose federated-dp"
        )
    return call


@final
@dataclass(frozen=True, slots=True)
class _Enrolled:
    """The site's records, and what it said of them."""

    ready: Ready
    part: int
    said: Enrolment
    team: SiteTeam | None
    account: SiteAccount | None


@final
class SiteSession:
    """A site's part in one run. Its calls take turns."""

    def __init__(self, kit: Path, call: Call, source: Source = operating_system) -> None:
        self._folder, self._call, self._source = SiteFolder(kit), call, source
        self._database = ExitStack()
        self._permitted: ProjectPermit | None = None
        self.health = HealthFile(self._folder.path / FILE)
        self._stack, self._turn = ExitStack(), threading.Lock()
        self._enrolled: _Enrolled | None = None
        self._runner: SiteRunner | None = None

    def enrol(self) -> list[bytes]:
        """Returns this site's enrolment and what its ledger shows; may be asked again.

        Raises:
            AccessDenied: The steward did not approve this.
            ConsiliumError: Its records cannot be used.
        """
        with self._turn, disk_in_words():
            enrolled = self._admitted()
            if enrolled.account is not None:
                standing = Standing(*enrolled.account.standing())
            else:
                ledger = self._folder.ledger(self._call.run)
                standing = Standing(count_charges(ledger), last_charged(ledger))
            return [wire.encode(enrolled.said), wire.encode(standing)]

    def join(self, roll: bytes) -> list[bytes]:
        """Returns this site's first messages among the sites of `roll`; joining again is allowed.

        Every joining begins a session: the keys of the one before are gone, and rounds that the
        ledger has are refused.

        Raises:
            AccessDenied: The steward did not approve this, or did not compare this roster.
            ConsiliumError: The roll breaks a rule, or nothing can be promised.
        """
        with self._turn, disk_in_words():
            enrolled = self._admitted()
            self._stack.close()
            self._runner = None
            self._runner = self._join(enrolled, roll)
            return self._runner.start()

    def handle(self, message: bytes) -> list[bytes]:
        """Returns this site's answers to one message of the coordinator.

        Raises:
            NotJoined: This process knows no roll yet.
            ProtocolError: The message breaks a rule.
            BudgetExceeded: The answer is not paid for.
            DataError: Its charge is not on the disk; nothing left.
        """
        with self._turn, disk_in_words():
            if self._runner is None:
                raise NotJoined("a message came before the roll; nothing was said")
            return self._runner.handle(message)

    def close(self) -> None:
        """Closes the ledger, and ends the site's team."""
        self._stack.close()
        if self._enrolled is not None and self._enrolled.team is not None:
            self._enrolled.team.close()
        self._database.close()
        self.health.ends("finished")

    def _admitted(self) -> _Enrolled:
        if self._enrolled is None:
            self._permitted = self._folder.check_approved(self._call)
            self._enrolled = self._read()
        return self._enrolled

    def _read(self) -> _Enrolled:
        settings, call = self._folder.settings(), self._call
        check_processes(settings, call.arm)
        own = call.project.for_arm(call.arm)
        folder = None if settings.data_folder is None else Path(settings.data_folder)
        splits = read_named(own.data, folder)
        shared = settings.holds == "its-part-of-a-shared-source"
        dataset = Dataset(splits=splits, duplicates="not compared here")
        ready = make_ready(own, dataset, federated=shared, seed=call.seed, folder=folder)
        part = _number(settings, len(ready.parts)) if shared else 0
        account = self._account(settings)
        if account is not None:
            ready = _attended(ready, part, account)
        facts = SiteFacts(
            name=settings.name,
            patients=ready.parts[part].patient_count,
            records=len(ready.parts[part]),
            dimension=dimension(ready.trained),
            classes=splits.classes,
        )
        said = enrol(call, facts, self._folder.identity())
        return _Enrolled(ready, part, said, _make_team(settings, call, ready, part), account)

    def _account(self, settings: SiteSettings) -> SiteAccount | None:
        """Returns this run's account in the office's ledger, where the office has one."""
        if (permit := self._permitted) is not None:
            self._database.callback(permit.database.close)
            store = LedgerStore(permit.database)
            return SiteAccount(store, dataset=permit.dataset, run=self._call.run, permit=permit)
        if settings.database is None:
            return None
        database = open_database(settings.database)
        self._database.callback(database.close)
        name = settings.dataset or PurePath(self._call.project.data.source).name
        store = LedgerStore(database)
        return SiteAccount(store, dataset=name, run=self._call.run)

    def _join(self, enrolled: _Enrolled, roll: bytes) -> SiteRunner:
        team = enrolled.team
        call, said = self._call, wire.decode(roll, ROLL, limit=LARGEST)
        checked = check_roll(call, said)
        number = place_of(enrolled.said, said)
        self._folder.check_trusted(checked.roster())
        setup = make_setup(call.project, call.arm, checked.facts, checked.identities, call.seed)
        ledger, present = self._pay(enrolled, setup)
        parts = SiteParts(
            terms=setup.for_site(number, self._folder.identity()),
            trainee=enrolled.ready.trainee(enrolled.part) if team is None else team.trainee,
            ledger=ledger,
            source=self._source,
            meter=self.health,
            summing=None if team is None else team.clipped_sum,
            present=present,
        )
        self.health.expects(setup)
        return SiteRunner(parts)

    def _pay(self, enrolled: _Enrolled, setup: Setup) -> tuple[Ledger, Attendance | None]:
        """Returns who is paid from, and who takes part."""
        if enrolled.account is None:
            file = FileLedger(self._folder.ledger(self._call.run), allowed=setup.steps_allowed)
            self._stack.callback(file.close)
            return file, None
        ledger = enrolled.account.open(purchase_of(self._call.project.name, setup))
        patients = enrolled.ready.parts[enrolled.part].patients
        return ledger, Attendance(ledger, patients)


def _attended(ready: Ready, part: int, account: SiteAccount) -> Ready:
    """Returns `ready` with only the records of patients who may take part."""
    parts = list(ready.parts)
    parts[part] = parts[part].take(account.attending(parts[part].patients))
    return replace(ready, parts=tuple(parts))


def _make_team(settings: SiteSettings, call: Call, ready: Ready, part: int) -> SiteTeam | None:
    """Returns the processes that the operator wants, all there; None: this process computes."""
    if settings.processes == 1:
        return None
    records = ready.parts[part]
    blueprint = Blueprint(
        project=call.project.resolved(),
        arm=call.arm,
        shape=records.shape,
        classes=ready.task.classes,
        seed=call.seed,
    )
    processes, seconds = settings.processes, settings.process_seconds
    team = SiteTeam(ready.trainee(part), blueprint, processes=processes, seconds=seconds)
    try:
        team.wait_until_ready()
    except BaseException:
        team.close()
        raise
    return team


def check_processes(settings: SiteSettings, arm: str) -> None:
    """Refuses an arm that several processes cannot compute.

    Raises:
        ConfigError: It has no clipped sum.
    """
    if settings.processes > 1 and not ARMS[arm].private:
        raise ConfigError(
            f"this site has {settings.processes} processes, and arm {arm} trains locally; expected "
            "an arm with dp, whose sums processes can share, or 1 process: join again without "
            "--processes"
        )


def _number(settings: SiteSettings, parts: int) -> int:
    if len(settings.sites) != parts:
        raise ConfigError(
            f"the project divides the source among {parts} sites; expected {len(settings.sites)}, "
            f"the federation's: train with --set sites.count={len(settings.sites)}"
        )
    return sorted(settings.sites).index(settings.name)

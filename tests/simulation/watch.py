# SPDX-License-Identifier: Apache-2.0
"""What must hold in every history, in plain code, and the oracle of the model.

The watch sees what crosses a boundary: what a site computed, every message at the moment it
leaves a site, what the coordinator accepted, each sum that opened, ledgers and results on disk.
It changes nothing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from tests.simulation.disk import Disk

from consilium import wire
from consilium.adapters.ledger_file import count_charges
from consilium.dp.noise import Ring
from consilium.dp.plan import View
from consilium.errors import DataError
from consilium.federation import coordinator
from consilium.federation.contribution import GradientWork
from consilium.federation.messages import (
    FROM_COORDINATOR,
    FROM_SITE,
    PlainUpdate,
    RoundStart,
    model_digest,
    weights_to_bytes,
)
from consilium.federation.plain_sum import PlainSum
from consilium.federation.progress import (
    Progress,
    begin,
    final_weights,
    step_by_change,
    step_by_gradient,
)
from consilium.federation.results import RunResult
from consilium.federation.setup import Setup
from consilium.federation.site import noise_shares
from consilium.federation.statement import round_up
from consilium.learning.parameters import Vector
from consilium.secagg.messages import Opening, Survivors, Upload

LARGEST: Final = 1 << 22
SECRET_PART: Final = 8  # bytes of a secret that must not be read in a message

At: TypeAlias = tuple[int, int]  # site, round


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """One sum that a coordinator opened.

    Attributes:
        round: Its number.
        members: Who was asked.
        survivors: Whose vectors are in it.
        arrived: The vectors as the coordinator got them, as bytes.
    """

    round: int
    members: tuple[int, ...]
    survivors: tuple[int, ...]
    arrived: Mapping[int, bytes]


@dataclass
class Lineage:
    """The opened sums behind a coordinator's present model."""

    opened: tuple[Opened, ...] = ()
    arrived: dict[int, bytes] = field(default_factory=dict)
    folder: Path = Path()


@dataclass
class Watch:
    """All that was seen."""

    disk: Disk
    wrong: list[str] = field(default_factory=list)
    secrets: list[bytes] = field(default_factory=list)
    sent: dict[At, bytes] = field(default_factory=dict)  # vectors as they left a site
    contributed: dict[At, Ring] = field(default_factory=dict)  # the same before their masks
    lists: dict[At, tuple[int, ...]] = field(default_factory=dict)  # survivors a site opened for
    durable: set[bytes] = field(default_factory=set)  # digests of models in whole checkpoints
    rounds: dict[Path, int] = field(default_factory=dict)  # of the last checkpoint, by folder
    finished: set[Path] = field(default_factory=set)  # folders
    saved: dict[tuple[int, bytes], tuple[Opened, ...]] = field(default_factory=dict)

    def complain(self, text: str) -> None:
        """Notes that an invariant is broken."""
        self.wrong.append(text)

    # -- At a site --------------------------------------------------------------------

    def computes(self, weights: Vector) -> None:
        """Sees a model that a site computes at."""
        if model_digest(weights_to_bytes(weights)) not in self.durable:
            self.complain("a site computes at a model that no coordinator sent")

    def leaves(
        self, request: bytes, answers: Sequence[bytes], ledger: Path, computed: Mapping[int, Ring]
    ) -> None:
        """Sees what a site answers to `request`, at the moment it leaves."""
        for answer in answers:
            message = wire.decode(answer, FROM_SITE, limit=LARGEST)
            match message:
                case Upload(site, number, vector) | PlainUpdate(site, number, vector):
                    self._vector_leaves((site, number), bytes(vector), ledger, computed)
                case Opening(site=site, round=number):
                    asked = wire.decode(request, FROM_COORDINATOR, limit=LARGEST)
                    assert isinstance(asked, Survivors)
                    before = self.lists.get((site, number))
                    self.lists[site, number] = asked.sites
                    if before is not None:
                        self.complain(f"site {site} opens round {number} twice: {before}, {asked}")
                case _:
                    pass

    def _vector_leaves(
        self, at: At, vector: bytes, ledger: Path, computed: Mapping[int, Ring]
    ) -> None:
        site, number = at
        if number not in charged_rounds(self.disk.whole_lines(ledger)):
            self.complain(f"site {site}'s vector of round {number} leaves before its charge")
        if self.sent.setdefault(at, vector) != vector:
            self.complain(f"site {site} sends two different vectors of round {number}")
        self.contributed.setdefault(at, computed[number])

    # -- At a coordinator -------------------------------------------------------------

    def steps(
        self,
        lineage: Lineage,
        before: coordinator.State,
        event: coordinator.Event,
        after: coordinator.State,
    ) -> None:
        """Sees a transition of a coordinator."""
        match before, event:
            case coordinator.Collecting(), coordinator.Received(Upload() | PlainUpdate() as said):
                lineage.arrived[said.site] = bytes(said.vector)
            case _:
                pass
        if after.progress.round != before.progress.round:
            self._opens(lineage, before)
        if after.progress.attempts != before.progress.attempts:
            lineage.arrived = {}

    def _opens(self, lineage: Lineage, before: coordinator.State) -> None:
        match before:
            case coordinator.Unmasking(sum=sums):
                members, survivors = sums.closed.plan.members, sums.closed.survivors
            case coordinator.Collecting(sum=PlainSum(members=members)):
                survivors = members
            case _:
                self.complain(f"a model moved while {type(before).__name__}")
                return
        opened = Opened(
            round=before.progress.attempts,
            members=members,
            survivors=survivors,
            arrived=dict(lineage.arrived),
        )
        lineage.opened = (*lineage.opened, opened)

    def saves(self, lineage: Lineage, progress: Progress) -> None:
        """Sees a checkpoint."""
        self.saved[progress.round, progress.weights.tobytes()] = lineage.opened

    def saved_by(self, lineage: Lineage, progress: Progress) -> None:
        """Sees that a checkpoint is durable."""
        self.durable.add(model_digest(weights_to_bytes(progress.weights)))
        self.rounds[lineage.folder] = progress.round

    def tells(self, kind: str, data: bytes) -> None:
        """Sees what a coordinator says, at the moment it leaves."""
        if kind != "handle":
            return
        message = wire.decode(data, FROM_COORDINATOR, limit=LARGEST)
        if isinstance(message, RoundStart) and message.plan.model not in self.durable:
            self.complain(f"round {message.plan.round} starts from a model that is not saved")

    def goes_on(self, progress: Progress, folder: Path) -> Lineage:
        """Returns the lineage of a coordinator that begins with `progress`."""
        if progress.round < self.rounds.get(folder, 0):
            self.complain(f"a coordinator goes on from round {progress.round}, not its last")
        if progress.round == 0:
            return Lineage(folder=folder)
        key = (progress.round, progress.weights.tobytes())
        if key not in self.saved:
            self.complain("a coordinator goes on from a model that was never saved")
        return Lineage(self.saved.get(key, ()), folder=folder)

    # -- At the end -------------------------------------------------------------------

    def ends(
        self, setup: Setup, first: Vector, lineage: Lineage, result: RunResult, model: Vector
    ) -> None:
        """Compares a result with the oracle."""
        if lineage.folder in self.finished:
            self.complain("a run that was finished is finished again")
        self.finished.add(lineage.folder)
        if result.rounds != len(lineage.opened):
            self.complain(f"{result.rounds} rounds stated; {len(lineage.opened)} sums were opened")
        expected = self.replay(setup, first, lineage)
        if expected is not None and not np.array_equal(model, expected):
            off = float(np.abs(model - expected).max())
            self.complain(f"the model is not that of the plain sums; largest difference {off}")

    def replay(self, setup: Setup, first: Vector, lineage: Lineage) -> Vector | None:
        """Returns the model of plain sums of what the sites contributed, without any mask."""
        progress = begin(setup.agenda, first)
        for opened in lineage.opened:
            vectors = [self._vector(opened, site) for site in opened.survivors]
            if any(vector is None for vector in vectors):
                return None
            total = np.zeros(setup.work.width(), np.uint64)
            for vector in vectors:
                total += 0 if vector is None else vector
            progress = _moved(setup, progress, total, len(opened.members))
        return final_weights(progress)

    def _vector(self, opened: Opened, site: int) -> NDArray[np.uint64] | None:
        """Returns a contribution, moved by what was changed on its way."""
        at = site, opened.round
        if at not in self.contributed:
            self.complain(f"round {opened.round} holds a vector that site {site} never sent")
            return None
        own = self.contributed[at]
        sent, arrived = (np.frombuffer(b, own.dtype) for b in (self.sent[at], opened.arrived[site]))
        return own.astype(np.uint64) + arrived.astype(np.uint64) - sent.astype(np.uint64)

    def stated(self, setup: Setup, result: RunResult, ledgers: Sequence[Path]) -> None:
        """Compares a result's epsilon with the ledgers at this moment."""
        worst = max(len(charged_rounds(self.disk.whole_lines(path))) for path in ledgers)
        if result.statement.steps_charged < worst:
            self.complain(f"{result.statement.steps_charged} steps stated; a ledger holds {worst}")
        if setup.plan is None:
            return
        for one in result.statement.guarantees:
            if one.epsilon < round_up(setup.plan.epsilon(worst, View(one.view))):
                self.complain(f"epsilon {one.epsilon} stated for {worst} charges")

    def ledger(self, name: str, path: Path) -> None:
        """Checks that a ledger is whole and shows each round at most once."""
        try:
            count_charges(path)
        except DataError as error:
            self.complain(str(error))
            return
        rounds = charged_rounds(path.read_bytes() if path.exists() else b"")
        if len(set(rounds)) != len(rounds):
            self.complain(f"site {name}'s ledger shows rounds {rounds}")

    def says(self, text: str) -> None:
        """Checks that an error or a log line gives no secret away."""
        if "b'" in text or 'b"' in text or "tensor(" in text or "array(" in text:
            self.complain(f"a message shows data: {text[:80]!r}")
        for secret in self.secrets:
            if secret[:SECRET_PART].hex() in text or repr(secret)[2:20] in text:
                self.complain("a message shows a secret")


def charged_rounds(data: bytes) -> list[int]:
    """Returns the rounds in the whole lines of a ledger."""
    lines = data[: data.rfind(b"\n") + 1].splitlines()
    return [int(json.loads(line)["round"]) for line in lines]


def _moved(setup: Setup, progress: Progress, total: NDArray[np.uint64], members: int) -> Progress:
    work = setup.work
    words: Ring = total.astype(work.word())  # modulo its size
    if isinstance(work, GradientWork):
        shares = noise_shares(setup.job, members=members, noise_alone=setup.noise_alone)
        return step_by_gradient(setup.agenda, progress, work.gradient(words, shares))
    return step_by_change(progress, work.change(words))

# SPDX-License-Identifier: Apache-2.0
"""One seed -> who takes part and what goes wrong where: all of it, before anything runs.

A fault happens when a party comes to a point for the nth time. Points are named by what is about
to happen there ("got RoundStart", "charged", "to:Survivors"); `world.py` calls them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final, final

PATIENTS: Final = 8  # at each site
COORDINATOR: Final = "coordinator"
OPERATOR: Final = "operator"
NAMES: Final = ("a", "b", "c", "d", "e")

KILL: Final = "kill -9"
POWER: Final = "power cut"
FULL: Final = "disk full"
SLEEP: Final = "sleep 60 s"
DROP, DELAY, TWICE, CUT, FLIP, REPLAY, SWAP = (
    "drop", "delay", "duplicate", "truncate", "flip a bit", "replay an old one beside",
    "replay an old one instead",
)  # fmt: skip
SAME_FOLDER: Final = "a second coordinator in the same folder"
OTHER_FOLDER: Final = "a second coordinator in another folder"
STOP: Final = "stop the run"

_CRASHES: Final = (KILL, POWER)
_DISK: Final = (KILL, POWER, FULL)
NETWORK: Final = (DROP, DELAY, TWICE, CUT, FLIP, REPLAY, SWAP)
_TO_SITE: Final = ("RoundStart", "Survivors", "Roster", "PrekeysWanted", "CiphertextTable", "enrol",
                   "join", "standing")  # fmt: skip
_FROM_SITE: Final = ("Upload", "PlainUpdate", "Opening", "Hello", "Prekeys", "Ciphertexts",
                     "Enrolment", "Standing", "nothing", "refusal")  # fmt: skip

# point: what may happen there, and how often it is drawn
AT_SITES: Final[dict[str, tuple[Sequence[str], int]]] = {
    "got enrol": ((KILL, SLEEP), 1),
    "got join": (_CRASHES, 1),
    "got Roster": ((KILL, SLEEP), 1),
    "got PrekeysWanted": ((KILL, SLEEP), 1),
    "got RoundStart": ((KILL, POWER, SLEEP), 3),
    "computed": ((KILL, SLEEP), 2),
    "ledger write": ((FULL, KILL), 2),
    "ledger fsync": (_DISK, 2),
    "charged": (_CRASHES, 3),
    "said Upload": (_CRASHES, 2),
    "sent Upload": (_CRASHES, 3),
    "got Survivors": ((KILL, POWER, SLEEP), 3),
    "fsync part": (_DISK, 1),
    "said Opening": (_CRASHES, 2),
    "sent Opening": (_CRASHES, 2),
}
AT_COORDINATOR: Final[dict[str, tuple[Sequence[str], int]]] = {
    "in Gathering": (_CRASHES, 1),
    "in Agreeing": (_CRASHES, 1),
    "in Preparing": (_CRASHES, 2),
    "in Collecting": (_CRASHES, 3),
    "in Unmasking": (_CRASHES, 3),
    "look": (_CRASHES, 2),
    "saved": (_CRASHES, 3),
    "tells RoundStart": (_CRASHES, 3),
    "tells Survivors": (_CRASHES, 3),
    "tells join": (_CRASHES, 1),
    "fsync part": (_DISK, 3),
    "replace": (_CRASHES, 1),
    "replaced": (_CRASHES, 2),
    "fsync folder": (_DISK, 1),
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to `party` when it is at `point` for the nth time."""

    party: str
    point: str
    nth: int
    what: str

    def __str__(self) -> str:
        return f"{self.party}: {self.what} at {self.point} #{self.nth}"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """Everything that a history is made of.

    Attributes:
        seed: Of the scheduling, the latencies and the secrets.
        sites: How many.
        arm: Of the project.
        changes: Of the project's settings.
        quorum_seconds: How long a phase waits for sites that are missing.
        lost_seconds: How long an answer is waited for.
        faults: In no order.
    """

    seed: int
    sites: int
    arm: str
    changes: tuple[tuple[str, str], ...]
    quorum_seconds: float
    lost_seconds: float
    faults: tuple[Fault, ...]

    def without(self, fault: Fault) -> "Script":
        """Returns the script with one fault less."""
        return replace(self, faults=tuple(one for one in self.faults if one is not fault))

    def names(self) -> tuple[str, ...]:
        """Returns the sites that take part."""
        return NAMES[: self.sites]

    def __str__(self) -> str:
        told = [f"{self.sites} sites, arm {self.arm}, {dict(self.changes)}"]
        told += [f"quorum {self.quorum_seconds:.0f} s, lost {self.lost_seconds:.0f} s"]
        return "\n".join([*told, *(str(fault) for fault in self.faults)])


def script_of(seed: int) -> Script:
    """Returns the script of `seed`."""
    random = Random(seed)  # noqa: S311 - of faults, not of secrets
    sites = random.choice((3, 3, 4, 4, 5))
    arm = random.choice(("federated-dp",) * 6 + ("federated", "federated-local-dp"))
    changes = {
        "sites.count": str(sites),
        "sites.colluders": "0" if sites == 3 else "1",
        "training.rounds": str(random.choice((2, 3, 4))),
        "dp.expected_batch": str(PATIENTS * sites),  # all of them: the price is then quick to tell
        "training.evaluate_every": str(random.choice((1, 2))),
    }
    if random.random() < 0.12:
        changes["sites.post_quantum"] = "true"
    elif arm != "federated-dp" and random.random() < 0.5:
        changes["sites.secure_sum"] = "off-and-the-coordinator-sees-every-update"
    names = NAMES[:sites]
    count = random.choice((0, 1, 2, 3, 4, 6, 8, 12))
    return Script(
        seed=seed,
        sites=sites,
        arm=arm,
        changes=tuple(sorted(changes.items())),
        quorum_seconds=random.choice((10.0, 30.0)),
        lost_seconds=random.choice((20.0, 90.0)),
        faults=tuple(_fault(random, names) for _ in range(count)),
    )


def _fault(random: Random, names: Sequence[str]) -> Fault:
    kind = random.choices(("site", "coordinator", "network", "operator"), (5, 5, 7, 1))[0]
    match kind:
        case "site":
            return _drawn(random, random.choice(names), AT_SITES, most=4)
        case "coordinator":
            return _drawn(random, COORDINATOR, AT_COORDINATOR, most=9)
        case "network":
            ways = [f"to:{name}" for name in _TO_SITE] + [f"from:{name}" for name in _FROM_SITE]
            weights = [4, 4, 1, 1, 1, 1, 1, 1, 4, 4, 4, 1, 1, 1, 1, 1, 1, 2]
            (point,) = random.choices(ways, weights)
            return Fault(
                party=random.choice(names),
                point=point,
                nth=random.randint(1, 5),
                what=random.choice(NETWORK),
            )
        case _:
            return Fault(
                party=OPERATOR,
                point="seconds",
                nth=random.choice((0, 1, 2, 4, 8, 20, 60)),
                what=random.choice((SAME_FOLDER, OTHER_FOLDER, STOP)),
            )


def _drawn(
    random: Random, party: str, table: dict[str, tuple[Sequence[str], int]], *, most: int
) -> Fault:
    (point,) = random.choices(list(table), [weight for _, weight in table.values()])
    return Fault(
        party=party,
        point=point,
        nth=random.randint(1, most),
        what=random.choice(table[point][0]),
    )

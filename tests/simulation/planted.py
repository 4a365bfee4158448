# SPDX-License-Identifier: Apache-2.0
"""Bugs to plant in a running program, so that a test can show that the simulation finds them.

    python -m tests.simulation.planted [NAME]      how many seeds each takes

A bug is a function's source with one piece of text replaced, as in `tests/mutants.py`, but in
this process and only while a block runs.
"""

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final, final

import pytest
from tests.simulation.history import History, play
from tests.simulation.script import script_of

from consilium.adapters import (
    coordinator_runner,
    federated,
    holding,
    ledger_file,
    site_runner,
    site_session,
    whole_files,
)
from consilium.federation import plain_sum
from consilium.federation import site as training
from consilium.secagg import coordinator as sums

MOST_SEEDS: Final = 8_000


@final
@dataclass(frozen=True, slots=True)
class Bug:
    """A safeguard that is missing.

    Attributes:
        module: Where it was.
        name: Of the function.
        old: Text that is once in its source.
        new: What takes its place.
        needs: What a script must say to find it; other seeds are not played.
        seed: The first that finds it.
    """

    module: ModuleType
    name: str
    old: str
    new: str
    needs: str = ""
    seed: int = 0

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Has the bug while the block runs."""
        owner, _, attribute = self.name.rpartition(".")
        place: Any = getattr(self.module, owner) if owner else self.module
        real = getattr(place, attribute)
        source = textwrap.dedent(inspect.getsource(real))
        assert source.count(self.old) == 1, f"{self.old!r} is not once in {self.name}"
        made: dict[str, Any] = {}
        code = compile(source.replace(self.old, self.new), self.module.__name__, "exec")
        exec(code, vars(self.module), made)  # noqa: S102 - our own source
        holders = [m for name, m in sys.modules.items() if name.startswith("consilium.")]
        with pytest.MonkeyPatch.context() as patch:
            for holder in (place, *holders):
                if vars(holder).get(attribute) is real:
                    patch.setattr(holder, attribute, made[attribute])
            yield

    def found_by(self, seed: int) -> History:
        """Returns the history of a seed with this bug in it."""
        with self.planted():
            return play(script_of(seed))


BUGS: Final = {
    "a vector leaves before its charge is written": Bug(
        ledger_file, "FileLedger.append",
        '_write(self._file, msgspec.json.encode(line) + b"\\n")', "pass"),
    "a charge is written but not synced": Bug(
        ledger_file, "FileLedger.append", "os.fsync(self._file.fileno())", "pass"),
    "a torn line stays in the ledger": Bug(
        ledger_file, "FileLedger.__init__", "os.ftruncate(self._file.fileno(), chain.size)",
        "pass", r"at ledger (write|fsync)", seed=19),
    "two processes hold one ledger": Bug(
        ledger_file, "_lock", "fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass",
        r"second coordinator|kill -9 at", seed=29),
    "the last round is not read from the ledger": Bug(
        site_runner, "SiteRunner.start",
        "self._parts.ledger.last_round(self._parts.terms.terms)", "0", seed=29),
    "an opening is given twice": Bug(
        training, "_open", "return replace(state, sum=joined), said", "return state, said",
        r"at to:Survivors|at to:.*replay", seed=38),
    "a checkpoint is saved one round late": Bug(
        coordinator_runner, "CoordinatorRunner._save", "self._hooks.save(progress)",
        "self._hooks.save(vars(self).get('late', progress)); vars(self)['late'] = progress"),
    "a checkpoint is written in place": Bug(
        whole_files, "write_whole", 'path.with_name(path.name + ".part")', "path",
        r"coordinator: .* at fsync part", seed=27),
    "a checkpoint's name is not synced": Bug(
        whole_files, "write_whole", "sync_folder(path.parent)", "pass",
        r"coordinator: power cut", seed=16),
    "two coordinators hold one folder": Bug(
        holding, "_lock", "fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass",
        "in the same folder", seed=35),
    "a repeated update is added": Bug(
        plain_sum, "add_plainly", "update.site in sum_.uploaded", "False",
        r"(?s)secure_sum.*(duplicate|replay.*) at from:PlainUpdate", seed=3849),
    "a site that died is counted as a survivor": Bug(
        sums, "_close_uploads", "tuple(sorted(state.uploaded))", "plan.members", seed=1),
    "the price is that of the rounds that opened": Bug(
        federated, "_conduct", "shares, played.finished.progress.attempts)",
        "shares, played.finished.progress.round)"),
    "weights of another digest are trained on": Bug(
        training, "_begin_round", "plan.model != model_digest(start.weights)", "False",
        r"flip a bit at to:RoundStart", seed=26),
    "a full disk's error leaves a site": Bug(
        site_session, "SiteSession.handle", "with self._turn, disk_in_words():",
        "with self._turn:", r"[a-e]: disk full at", seed=19),
}  # fmt: skip


def seeds_until_found(bug: Bug, most: int) -> tuple[int, str] | None:
    """Returns the first seed that finds a bug, and what is wrong then; None where none does."""
    for seed in range(most):
        if not re.search(bug.needs, str(script_of(seed))):
            continue
        history = bug.found_by(seed)
        if history.wrong:
            return seed, history.wrong[0]
    return None


def main(names: list[str]) -> int:
    """Measures how many seeds each bug takes; returns how many bugs are not found."""
    missed = 0
    for name, bug in BUGS.items():
        if not names or any(one in name for one in names):
            found = seeds_until_found(bug, MOST_SEEDS)
            missed += found is None
            sys.stdout.write(f"{name}: {found}\n")
            sys.stdout.flush()
    return missed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

# SPDX-License-Identifier: Apache-2.0
"""What the commands of `ledger` do."""

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import typer
from sqlalchemy import Connection

from consilium.adapters.store import ledger_check, ledger_views
from consilium.adapters.store.database import open_database
from consilium.adapters.store.ledger_store import LedgerStore
from consilium.adapters.store.ledger_views import Standing
from consilium.adapters.store.office_shelves import OFFICE, THE_OFFICE
from consilium.adapters.whole_files import write_whole
from consilium.errors import AccessDenied, ConfigError
from consilium.governance.composition import Cap
from consilium.web import formats

_REFUSED: Final = 2


def show(url: str, dataset: str | None, *, as_json: bool) -> None:
    """Prints how datasets stand."""
    with _reading(url) as connection:
        names = ledger_views.datasets(connection) if dataset is None else [dataset]
        found = [ledger_views.standing(connection, name) for name in names]
        held = ledger_views.open_reservations(connection)
    if as_json:
        _print({"datasets": found, "held": held})
        return
    for one in found:
        _show(one)
    for run in held:
        typer.echo(f"held: {run.number}, {run.steps} steps for {run.project} on {run.dataset}")


def verify(url: str, *, as_json: bool) -> None:
    """Prints what was checked; leaves with 2 where something is wrong."""
    with _reading(url) as connection:
        verdict = ledger_check.verify(connection)
    if as_json:
        _print({"entries": verdict.entries, "head": verdict.head.hex(), "wrong": verdict.wrong})
    elif verdict.intact:
        typer.echo(f"ledger intact: {verdict.entries} entries, head {verdict.head.hex()[:16]}")
    else:
        typer.echo(f"consilium: {verdict.wrong}", err=True)
    if not verdict.intact:
        sys.exit(_REFUSED)


def export(url: str, out: Path, *, as_json: bool) -> None:
    """Writes all entries, one a line."""
    if out.exists():
        raise ConfigError(f"{out.name} exists; expected a new file: choose another --out")
    with _reading(url) as connection:
        lines = [
            msgspec.json.encode(
                {
                    "sequence": row.sequence,
                    "time": row.time,
                    "entry": msgspec.Raw(row.body.encode()),
                    "link": row.link.hex(),
                }
            )
            for row in ledger_check.rows(connection)
        ]
    write_whole(out, b"".join(line + b"\n" for line in lines))
    if as_json:
        _print({"entries": len(lines), "file": str(out)})
    else:
        typer.echo(f"{len(lines)} entries in {out}")


def cap(
    url: str,
    whose: tuple[str | None, bool],
    numbers: tuple[float, float],
    by: Sequence[str],
    *,
    as_json: bool,
) -> None:
    """Sets a cap."""
    dataset, patients = whose
    if (dataset is None) != patients:
        raise ConfigError("a cap of nothing, or of both; expected a DATASET, or --patients")
    wanted = Cap(epsilon=numbers[0], delta=numbers[1])
    with _writing(url) as (store, connection):
        _check_nobody_signs_in(connection)
        if dataset is None:
            store.cap_patients(connection, wanted, by)
        else:
            store.set_cap(connection, dataset, wanted, by)
    _done(as_json, cap=dataset or "patients", epsilon=wanted.epsilon, delta=wanted.delta)


def change(url: str, action: str, what: str, by: Sequence[str], *, as_json: bool) -> None:
    """Freezes, thaws, opts out or opts in."""
    with _writing(url) as (store, connection):
        _check_nobody_signs_in(connection)
        actions = {
            "freeze": store.freeze,
            "thaw": store.thaw,
            "opt_out": store.opt_out,
            "opt_in": store.opt_in,
        }
        actions[action](connection, what, by)
    _done(as_json, done=action.replace("_", "-"), of=what)


def give_back(url: str, reservation: int, reason: str, *, as_json: bool) -> None:
    """Returns what a reservation holds."""
    with _writing(url) as (store, connection):
        store.void(connection, reservation, reason)
    _done(as_json, returned=reservation)


def _check_nobody_signs_in(connection: Connection) -> None:
    """Refuses names that nobody proved where an office knows who acts.

    Raises:
        AccessDenied: The database is an office's.
    """
    if OFFICE.peek(connection, THE_OFFICE) is not None:
        raise AccessDenied(
            "this database is an office's, which knows its people; expected one of them: consilium "
            "dataset freeze, lower-cap, propose, confirm, opt-out, or its pages"
        )


@contextmanager
def _reading(url: str) -> Iterator[Connection]:
    database = open_database(url)
    try:
        with database.reading() as connection:
            yield connection
    finally:
        database.close()


@contextmanager
def _writing(url: str) -> Iterator[tuple[LedgerStore, Connection]]:
    database = open_database(url)
    try:
        with database.transaction() as connection:
            yield LedgerStore(database), connection
    finally:
        database.close()


def _show(one: Standing) -> None:
    state = ", frozen" if one.frozen else ""
    typer.echo(f"{one.dataset}: {one.patients} patients{state}, {one.opted_out} opted out")
    typer.echo(
        f"  epsilon {formats.epsilon(one.epsilon)} of {one.cap:g} at delta "
        f"{formats.delta(one.delta)}, unit patient; "
        f"reserved {formats.epsilon(one.reserved)}, left {_down(one.free)}"
    )
    typer.echo(
        f"  who knows all else guesses whether one patient took part right at most "
        f"{math.ceil(1000 * one.guess) / 10:.1f} times in 100; with no release, 50"
    )
    for project in one.by_project:
        typer.echo(
            f"  {project.name}: {formats.epsilon(project.epsilon)} by itself, {project.steps} steps"
        )
    for group in one.by_patient:
        spent = formats.epsilon(group.epsilon)
        typer.echo(f"  {group.patients} patients at {spent} of {one.patient_cap:g}")


def _down(epsilon: float) -> str:
    """Returns what is left, never above what it is."""
    return f"{math.floor(epsilon * 100) / 100:.2f}"


def _done(as_json: bool, **facts: object) -> None:
    if as_json:
        _print(facts)
    else:
        typer.echo("written: " + ", ".join(f"{key} {value}" for key, value in facts.items()))


def _print(found: object) -> None:
    typer.echo(msgspec.json.format(msgspec.json.encode(found)).decode())

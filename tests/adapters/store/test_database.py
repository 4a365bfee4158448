# SPDX-License-Identifier: Apache-2.0
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Column, Integer, MetaData, Table, inspect, select, text
from sqlalchemy.exc import IntegrityError

from consilium.adapters.store import database as module
from consilium.adapters.store import migrating
from consilium.adapters.store.database import Database, open_database
from consilium.adapters.store.ledger_tables import COHORT, ENTRY, PATIENT
from consilium.adapters.store.schema import METADATA
from consilium.errors import ConfigError, DataError

NOON = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)


def test_migrations_make_exactly_the_declared_tables(database: Database) -> None:
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})

        assert compare_metadata(context, METADATA) == []


def test_a_transaction_keeps_all_or_nothing(database: Database) -> None:
    with pytest.raises(IntegrityError):
        _write_twice(database)

    with database.reading() as connection:
        assert connection.execute(select(COHORT)).all() == []


def _write_twice(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(COHORT.insert().values(id=1, charged=0))
        connection.execute(COHORT.insert().values(id=1, charged=0))


def test_a_full_disk_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'office.db'}")

    with pytest.raises(DataError, match="disk is full"):
        _fill(database)

    with database.reading() as connection:
        assert connection.execute(select(COHORT)).all() == []
    database.close()


def _fill(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(text("PRAGMA max_page_count = 1"))  # no more than there are
        connection.execute(COHORT.insert(), [{"id": k, "charged": k} for k in range(10_000)])


def test_references_are_held(database: Database) -> None:
    row = {"id": 1, "pseudonym": "p", "cohort": 7, "opted_out": False}
    with pytest.raises(IntegrityError), database.transaction() as connection:
        connection.execute(PATIENT.insert().values(row))


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=2))])
def test_times_come_back_as_the_same_moment(database: Database, zone: timezone) -> None:
    row = {"sequence": 1, "kind": "k", "body": "{}", "link": b"", "time": NOON.astimezone(zone)}
    with database.transaction() as connection:
        connection.execute(ENTRY.insert().values(row))

    with database.reading() as connection:
        assert connection.execute(select(ENTRY.c.time)).scalar_one() == NOON


def test_who_reads_holds_no_writer_up(database: Database) -> None:
    with database.reading() as reader:
        before = reader.execute(select(COHORT)).all()
        with database.transaction() as writer:
            writer.execute(COHORT.insert().values(id=1, charged=0))

        assert reader.execute(select(COHORT)).all() == before == []


def test_a_second_writer_waits_and_gives_up(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database.kind == "sqlite":
        url = str(database.engine.url)
        monkeypatch.setattr(module, "PATIENCE", 0.1)
        other = open_database(url)
    else:
        other = Database(database.engine)
        monkeypatch.setattr(module, "PATIENCE", 0.1)
    with (
        database.transaction(),
        pytest.raises(DataError, match="expected its turn"),
        other.transaction(),
    ):
        pass
    other.close()


def test_sqlite_syncs_every_commit_and_hides_the_file(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'office.db'}")
    with database.transaction() as connection:
        settings = ("journal_mode", "synchronous", "foreign_keys")
        found = [connection.execute(text(f"PRAGMA {name}")).scalar_one() for name in settings]
        modes = {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    database.close()

    assert found == ["wal", 2, 1]
    assert modes == {0o600}


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("mysql://x/y", "not one that can be used"),
        ("office", "not one that can be used"),
        ("sqlite:////nowhere/at/all/office.db", "cannot be opened"),
        ("postgresql://nobody@127.0.0.1:1/none", "server cannot be used"),
    ],
)
def test_unfit_urls_are_refused(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        open_database(url)


def test_network_disks_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "file_system", lambda _: "nfs4")

    with pytest.raises(ConfigError, match="network file system \\(nfs4\\)"):
        open_database(f"sqlite:///{tmp_path / 'office.db'}")


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "office.db").write_bytes(b"x" * 4096)

    with pytest.raises(DataError, match="no database"):
        open_database(f"sqlite:///{tmp_path / 'office.db'}")


# -- Migrations -----------------------------------------------------------------------


def _age(database: Database, revision: str) -> None:
    with database.transaction() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :new"), {"new": revision})


def test_a_newer_database_is_refused(database_url: str) -> None:
    database = open_database(database_url)
    _age(database, "9999_future")

    with pytest.raises(DataError, match="9999_future"):
        open_database(database_url)
    database.close()


def test_an_older_database_is_refused_where_nothing_may_change(database_url: str) -> None:
    with pytest.raises(DataError, match="revision None; expected"):
        open_database(database_url, migrate=False)


def test_a_migration_is_preceded_by_a_backup(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = open_database(database_url)
    with database.transaction() as connection:
        connection.execute(COHORT.insert().values(id=1, charged=5))
    old = migrating.newest()
    extra = Table("extra", MetaData(), Column("id", Integer, primary_key=True))
    monkeypatch.setattr(migrating, "newest", lambda: "next")
    monkeypatch.setattr(
        command,
        "upgrade",
        lambda config, _: extra.create(config.attributes["connection"]),
    )

    open_database(database_url).close()

    with database.reading() as connection:
        assert inspect(connection).has_table("extra")
    assert _backup_of_cohorts(database, old) == [(1, 5)]
    database.close()


def _backup_of_cohorts(database: Database, old: str) -> list[tuple[int, int]]:
    if database.kind == "postgresql":
        with database.reading() as connection:
            copied = Table(
                "ledger_cohort", MetaData(), schema=f"before_{old}", autoload_with=connection
            )
            found = connection.execute(select(copied))
            return [tuple(row) for row in found]
    path = Path(f"{database.engine.url.database}.before-{old}")
    assert path.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(path)) as copy:
        assert copy.execute("SELECT * FROM sqlite_schema WHERE name = 'extra'").fetchall() == []
        rows: list[tuple[int, int]] = copy.execute("SELECT * FROM ledger_cohort").fetchall()
    return rows


def test_a_failed_migration_changes_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = open_database(database_url)
    extra = Table("extra", MetaData(), Column("id", Integer, primary_key=True))

    def fails(config: Config, _: str) -> None:
        extra.create(config.attributes["connection"])
        raise RuntimeError

    monkeypatch.setattr(migrating, "newest", lambda: "next")
    monkeypatch.setattr(command, "upgrade", fails)

    with pytest.raises(RuntimeError):
        open_database(database_url)
    with database.reading() as connection:
        assert not inspect(connection).has_table("extra")
    database.close()

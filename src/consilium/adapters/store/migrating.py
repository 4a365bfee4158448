# SPDX-License-Identifier: Apache-2.0
"""Brings a database's tables up to this version, after a backup, in the caller's transaction.

The way back is the backup: SQLite's lies beside the file (`office.db.before-REVISION`), that of
PostgreSQL in a schema of the same database (`before_REVISION`). Both are made while the writer's
lock is held, so nothing is written between backup and migration; if either fails, nothing changed.
"""

import os
import sqlite3
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from consilium.adapters.whole_files import sync_folder
from consilium.errors import DataError

_SCRIPTS: Final = "consilium.adapters.store:migrations"
_VERSIONS: Final = "alembic_version"


def migrate(connection: Connection) -> None:
    """Migrates to the newest revision; `connection` is the only writer.

    Raises:
        DataError: The database is of a newer version of consilium.
    """
    config, found = _config(connection), revision(connection)
    if found == newest():
        return
    _check_known(found)
    if found is not None:
        _back_up(connection, found)
    command.upgrade(config, "head")


def stale(found: str | None) -> DataError:
    """Returns the refusal of a database whose tables are not those of this version."""
    return DataError(
        f"the database is of revision {found}; expected {newest()}: open it with a command that "
        "may migrate it"
    )


def revision(connection: Connection) -> str | None:
    """Returns the revision of the database's tables; None where there are none yet."""
    return MigrationContext.configure(connection).get_current_revision()


def newest() -> str:
    """Returns the revision of this version's tables."""
    head = _scripts().get_current_head()
    assert head is not None  # noqa: S101 - there is a first migration
    return head


def _check_known(found: str | None) -> None:
    known = [script.revision for script in _scripts().walk_revisions()]
    if found is not None and found not in known:
        raise DataError(
            f"the database is of revision {found}, which this version does not know; expected "
            f"{newest()} or before: install the version of consilium that made it"
        )


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config(None))


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", _SCRIPTS)
    config.attributes["connection"] = connection
    return config


# -- Backup ---------------------------------------------------------------------------


def _back_up(connection: Connection, found: str) -> None:
    if connection.dialect.name == "sqlite":
        path = connection.engine.url.database
        assert path is not None  # noqa: S101 - a file, as `open_database` checks
        copy_sqlite(Path(path), Path(f"{path}.before-{found}"))
    else:
        _copy_tables(connection, f"before_{found}")


def copy_sqlite(path: Path, copy: Path) -> None:
    """Writes a copy of what is committed in the database at `path`: all of it or nothing.

    It needs no pause of the writers, and only its owner may read it.
    """
    part = copy.with_name(copy.name + ".part")
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    source, target = sqlite3.connect(path), sqlite3.connect(part)
    try:
        source.backup(target)
    finally:
        source.close()
        target.close()
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(copy)
    sync_folder(copy.parent)


def _copy_tables(connection: Connection, schema: str) -> None:
    quoted = connection.dialect.identifier_preparer.quote
    tables = inspect(connection).get_table_names()
    connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {quoted(schema)} CASCADE")
    connection.exec_driver_sql(f"CREATE SCHEMA {quoted(schema)}")
    for table in tables:
        connection.exec_driver_sql(
            f"CREATE TABLE {quoted(schema)}.{quoted(table)} AS TABLE {quoted(table)}"
        )

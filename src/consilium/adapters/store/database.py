# SPDX-License-Identifier: Apache-2.0
"""One database of one office: SQLite in a file, or PostgreSQL by its URL; one writer at a time.

    with database.transaction() as connection:   reads and writes, alone; all of it or nothing
    with database.reading() as connection:       one moment's picture; writers are not held up

Guarantees: when `transaction` ends without an error, what it wrote is on the disk (SQLite: WAL
with synchronous=FULL; PostgreSQL: fsync and synchronous_commit, refused where they are off). Two
writers never overlap, in this process or any other: SQLite by BEGIN IMMEDIATE, PostgreSQL by one
advisory lock that is taken first, so that every statement after it sees all that was committed
before. What is read in a transaction therefore still holds when it is written; nobody retries.
A file on a network file system is refused where Linux names it as such: WAL needs shared memory,
and locks there are not to be relied on. Elsewhere this cannot be told; keep it on a local disk.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from consilium.adapters.store import migrating
from consilium.adapters.whole_files import sync_folder
from consilium.errors import ConfigError, DataError

PATIENCE: Final = 60.0  # seconds that a writer waits for the ones before it
_PAUSE: Final = 0.02  # seconds
_WRITERS: Final = 0x636F6E73696C6961  # "consilia": the advisory lock of PostgreSQL
_BEGIN: Final = "consilium_begin"  # execution option: how a transaction begins
_NETWORK: Final = ("nfs", "nfs3", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "lustre")
_CLUSTER: Final = ("gpfs", "beegfs", "glusterfs", "ocfs2", "gfs2", "fuse.sshfs", "fuse.glusterfs")


@final
class Database:
    """An open database; `open_database` makes one. Threads share it, forked processes do not."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def kind(self) -> str:
        """Either "sqlite" or "postgresql"."""
        return self.engine.dialect.name

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Gives a connection that is the only writer, and commits at the end; an error undoes all.

        Raises:
            DataError: Other writers did not end within a minute, or the disk is full or broken;
                nothing was written, or nobody knows and there is no receipt.
        """
        with self._begun("BEGIN IMMEDIATE") as connection:
            if self.kind == "postgresql":
                _queue(connection)
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Gives a connection that sees one moment and writes nothing."""
        with self._begun("BEGIN") as connection:
            if self.kind == "postgresql":
                connection.execute(
                    text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                )
            yield connection

    @contextmanager
    def _begun(self, statement: str) -> Iterator[Connection]:
        options = {_BEGIN: statement}
        try:
            with (
                self.engine.connect().execution_options(**options) as connection,
                connection.begin(),
            ):
                yield connection
        except OperationalError as error:  # busy, full, broken: undone, and without a receipt
            raise _unusable(error) from None

    def close(self) -> None:
        """Closes every connection."""
        self.engine.dispose()


def open_database(url: str, *, migrate: bool = True) -> Database:
    """Returns the database at `url`, whose tables are those of this version.

    Args:
        url: sqlite:///FILE, or postgresql://USER:PASSWORD@HOST/NAME.
        migrate: Brings older tables up to date, after a backup; otherwise they are refused.

    Raises:
        ConfigError: The URL is of neither kind, or its server or folder is not fit for a ledger.
        DataError: The database is older, newer, damaged or busy.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError(_UNUSABLE) from None
    match parsed.get_backend_name():
        case "sqlite":
            database = _open_sqlite(parsed)
        case "postgresql":
            database = _open_postgresql(parsed)
        case _:
            raise ConfigError(_UNUSABLE)
    try:
        _bring_up_to_date(database, migrate=migrate)
    except BaseException:
        database.close()
        raise
    return database


def _bring_up_to_date(database: Database, *, migrate: bool) -> None:
    with database.reading() as connection:
        found = migrating.revision(connection)
        if found == migrating.newest():
            return
        if not migrate:
            raise migrating.stale(found)
    with database.transaction() as connection:
        migrating.migrate(connection)


def lasting_url(url: str) -> str:
    """Returns `url` with a file's path from the root, so that other folders may be worked in."""
    if not url.startswith("sqlite:///") or url == "sqlite:///":
        return url
    return f"sqlite:///{Path(url.removeprefix('sqlite:///')).absolute()}"


_UNUSABLE: Final = (
    "the database's URL is not one that can be used; expected sqlite:///FILE or "
    "postgresql://USER:PASSWORD@HOST/NAME: correct --database"
)


# -- SQLite ---------------------------------------------------------------------------


def _open_sqlite(url: URL) -> Database:
    if not url.database or url.database == ":memory:" or url.query:
        raise ConfigError(
            "the database would be in memory; expected sqlite:///FILE: a ledger is on a disk"
        )
    path = Path(url.database).absolute()
    if (kind := file_system(path.parent)) in {*_NETWORK, *_CLUSTER}:
        raise ConfigError(
            f"the folder of {path.name} is on a network file system ({kind}); expected a local "
            "disk: move it, or use PostgreSQL"
        )
    _make_file(path)
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": PATIENCE})
    event.listen(engine, "connect", _settle)
    event.listen(engine, "begin", _begin)
    _use_wal(path)
    return Database(engine)


def _make_file(path: Path) -> None:
    """Makes an empty file that only its owner reads; SQLite gives its companions the same mode."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        sync_folder(path.parent)
    except OSError as error:
        raise ConfigError(
            f"{path.name} cannot be opened ({error.strerror}); expected a folder to write to: "
            "make it, or correct --database"
        ) from None


def _use_wal(path: Path) -> None:
    """Turns on the write-ahead log; SQLite does not wait by itself when others do the same."""
    deadline = time.monotonic() + PATIENCE
    while True:
        connection = sqlite3.connect(path, timeout=PATIENCE)
        try:
            if connection.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",):
                return
            raise ConfigError(f"{path.name} has no write-ahead log; expected a local disk: move it")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise DataError(_BUSY) from None
            time.sleep(_PAUSE)
        except sqlite3.DatabaseError:
            raise DataError(
                f"{path.name} is no database; expected an office's: restore its backup"
            ) from None
        finally:
            connection.close()


def _settle(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    assert isinstance(connection, sqlite3.Connection)  # noqa: S101 - of this engine
    connection.isolation_level = None  # transactions begin where we say so
    for pragma in ("synchronous=FULL", "foreign_keys=ON", "fullfsync=ON", "trusted_schema=OFF"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))


def file_system(folder: Path) -> str:
    """Returns the kind of file system that `folder` is on, as Linux names it; "" elsewhere."""
    mounts = Path("/proc/self/mountinfo")
    if not mounts.exists():
        return ""
    found, where = "", folder.resolve()
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        before, _, after = line.partition(" - ")
        point = Path(before.split()[4].encode().decode("unicode_escape"))
        if where.is_relative_to(point):  # a later mount hides the ones before
            found = after.split()[0]
    return found


# -- PostgreSQL -----------------------------------------------------------------------


_DURABLE: Final = ("fsync", "synchronous_commit", "full_page_writes")


def _open_postgresql(url: URL) -> Database:
    engine = create_engine(url.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
    try:
        with engine.connect() as connection:
            settings = {
                name: connection.execute(text(f"SHOW {name}")).scalar_one() for name in _DURABLE
            }
    except DBAPIError as error:
        engine.dispose()
        raise ConfigError(
            f"the database server cannot be used ({type(error.orig).__name__}); expected "
            "PostgreSQL at the host, name and user of --database: start it, or correct the URL"
        ) from None
    if off := [name for name, value in settings.items() if value == "off"]:
        engine.dispose()
        raise ConfigError(
            f"the server has {', '.join(off)} off; expected on: a charge that is not on the disk "
            "may be lost"
        )
    return Database(engine)


def _queue(connection: Connection) -> None:
    """Waits until every writer before has ended."""
    connection.execute(text(f"SET LOCAL lock_timeout = '{int(PATIENCE * 1000)}ms'"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WRITERS})


_BUSY: Final = (
    f"the database is busy; expected its turn within {PATIENCE:g} seconds: try again, and end "
    "programs that hold it"
)


def _unusable(error: OperationalError) -> DataError:
    words = str(error.orig)
    if "locked" in words or "lock timeout" in words:
        return DataError(_BUSY)
    return DataError(
        f"the database cannot be used ({type(error.orig).__name__}: {words.splitlines()[0]}); "
        "expected an office's: check its disk or server, or restore its backup"
    )

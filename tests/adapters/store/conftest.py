# SPDX-License-Identifier: Apache-2.0
"""Databases to test on: a fresh SQLite file, and a PostgreSQL server of our own in a folder.

`database_url` is a fresh database of either kind; the PostgreSQL half is marked `postgres` and
skipped by name where there is no server. `postgres_server` starts one a session, on a Unix socket.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest

from consilium.adapters.store.database import Database, open_database

_NUMBERS = count()


def _program(name: str) -> str | None:
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(installed[-1]) if installed else shutil.which(name)


def _owner(folder: Path) -> int | None:
    """Returns the user that the server runs as: PostgreSQL refuses root."""
    if os.getuid() != 0:
        return None
    user = pwd.getpwnam("postgres").pw_uid
    os.chown(folder, user, -1)
    return user


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Gives the folder of the socket of a running server, whose superuser is `steward`."""
    initdb, pg_ctl = _program("initdb"), _program("pg_ctl")
    if initdb is None or pg_ctl is None:
        pytest.skip("needs PostgreSQL's server: no initdb on this machine")
    folder = Path(tempfile.mkdtemp(prefix="consilium-pg-"))  # short: a socket's path is limited
    user, data = _owner(folder), str(folder / "data")

    def run(*command: str) -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, user=user)  # noqa: S603

    run(initdb, "-D", data, "-U", "steward", "-A", "trust", "-E", "UTF8")
    settings = f"-k {folder} -c listen_addresses='' -c max_connections=200"
    run(pg_ctl, "-D", data, "-o", settings, "-l", str(folder / "log"), "-w", "start")
    try:
        yield str(folder)
    finally:
        run(pg_ctl, "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Returns the URL of a database that is empty."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'office.db'}"
    folder: str = request.getfixturevalue("postgres_server")
    name = f"office{next(_NUMBERS)}"
    with psycopg.connect(f"host={folder} user=steward dbname=postgres", autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}".encode())
    return f"postgresql://steward@/{name}?host={folder}"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Gives an open database with all tables."""
    opened = open_database(database_url)
    yield opened
    opened.close()

# SPDX-License-Identifier: Apache-2.0
"""An office: a site or a coordinator, with its services over one database.

    FOLDER/office.key    Ed25519 private key; made here, mode 0600, never leaves
    FOLDER/office.db     its database, unless another URL was given

Who may read the folder has the office in hand, as with any database: it belongs to one account
of the operating system and nobody else may enter it.
"""

import os
from pathlib import Path
from typing import Final, final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from consilium.adapters.office.association import Associations
from consilium.adapters.office.datasets import Datasets
from consilium.adapters.office.desk import Desk
from consilium.adapters.office.exchange import Exchange
from consilium.adapters.office.grants import Grants
from consilium.adapters.office.log import Log
from consilium.adapters.office.models import Models
from consilium.adapters.office.moments import Clock, Names, new_name, system_clock
from consilium.adapters.office.people import People
from consilium.adapters.office.processes import Processes
from consilium.adapters.office.projects import Projects
from consilium.adapters.office.roles import Roles, seed_roles
from consilium.adapters.office.runs import Runs
from consilium.adapters.office.settings import OfficeSettings
from consilium.adapters.store.database import Database, open_database
from consilium.adapters.store.office_shelves import OFFICE, THE_OFFICE, OfficeRow
from consilium.errors import ConfigError, Conflict, DataError
from consilium.governance.association import OfficeKind
from consilium.governance.policy import PRESETS, Policy

KEY: Final = "office.key"
FILE: Final = "office.db"
DATABASE: Final = "CONSILIUM_DATABASE"  # of the environment: another URL
_KEY_BYTES: Final = 32
_IDLE_MINUTES: Final = 15


@final
class Office:
    """The services of one office. Threads share it; `open_office` makes one."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.people, self.roles = People(desk), Roles(desk)
        self.datasets, self.grants = Datasets(desk), Grants(desk)
        self.projects, self.runs = Projects(desk), Runs(desk)
        self.exchange, self.models = Exchange(desk), Models(desk)
        self.log, self.associations = Log(desk), Associations(desk)
        self.processes = Processes(desk)
        self.settings = OfficeSettings(desk)

    def close(self) -> None:
        """Closes the database."""
        self.desk.database.close()


def found_office(
    folder: Path, name: str, kind: OfficeKind, *, policy: Policy = PRESETS["standard"]
) -> Office:
    """Returns a new office in `folder`, without any person.

    Raises:
        Conflict: There is one.
        ConfigError: The name is none.
    """
    if not name.strip() or len(name) > 100:
        raise ConfigError(f"office {name!r}; expected a name of 1 to 100 characters")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (folder / KEY).exists():
        raise Conflict(f"{folder} holds an office already; expected a new folder")
    key = Ed25519PrivateKey.generate()
    _write_key(folder / KEY, key.private_bytes_raw())
    database = open_database(database_url(folder))
    now = system_clock()
    row = OfficeRow(
        name=name,
        kind=kind,
        key=key.public_key().public_bytes_raw(),
        founded=now,
        title=name,
        policy=policy,
        idle_minutes=_IDLE_MINUTES,
    )
    with database.transaction() as connection:
        OFFICE.add(connection, THE_OFFICE, row)
        seed_roles(connection)
    return open_with(database, folder)


def open_office(folder: Path) -> Office:
    """Returns the office in `folder`.

    Raises:
        ConfigError: There is none.
        DataError: Its key is missing or open to others.
    """
    if not (folder / KEY).exists():
        raise ConfigError(
            f"{folder} holds no office; expected one: consilium office init {folder} --name NAME"
        )
    return open_with(open_database(database_url(folder)), folder)


def open_with(
    database: Database, folder: Path, *, clock: Clock = system_clock, names: Names = new_name
) -> Office:
    """Returns the office in `folder` on an open database.

    Raises:
        DataError: The key is missing, open to others, or not this office's.
    """
    key = _read_key(folder / KEY)
    public = Ed25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()
    with database.reading() as connection:
        row = OFFICE.get(connection, THE_OFFICE)
    if row.key != public:
        raise DataError(f"{KEY} is not the key of {row.name}; expected its own: restore its copy")
    return Office(Desk(database=database, name=row.name, key=key, clock=clock, names=names))


def database_url(folder: Path) -> str:
    """Returns where the database of the office in `folder` is."""
    return os.environ.get(DATABASE) or f"sqlite:///{folder.absolute() / FILE}"


def _write_key(path: Path, key: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())


def _read_key(path: Path) -> bytes:
    try:
        mode, key = path.stat().st_mode & 0o077, path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{KEY} cannot be read ({type(error).__name__}); restore its copy"
        ) from None
    if mode or len(key) != _KEY_BYTES:
        raise DataError(
            f"{KEY} is open to others or {len(key)} bytes long; expected mode 600 and "
            f"{_KEY_BYTES}: chmod 600, or restore its copy"
        )
    return key

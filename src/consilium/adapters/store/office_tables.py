# SPDX-License-Identifier: Apache-2.0
"""Tables of an office: people, datasets, grants, projects, models, other offices, and the log.

A shelf is a table of whole values: an id, the columns that are searched for, and the value as JSON.
"""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, LargeBinary, Table, Text, UniqueConstraint

from consilium.adapters.store.metadata import METADATA, UtcTime


def _shelf(name: str, *searched: str, unique: tuple[str, ...] = ()) -> Table:
    columns = [Column(one, Text, nullable=False) for one in searched]
    rules = [UniqueConstraint(*unique)] if unique else []
    table = Table(
        name,
        METADATA,
        Column("id", Text, primary_key=True),
        *columns,
        Column("body", Text, nullable=False),
        *rules,
    )
    for column in columns:
        if column.name not in unique[:1]:
            Index(None, column)
    return table


OFFICE: Final = _shelf("office")
ROLES: Final = _shelf("office_role")
PEOPLE: Final = _shelf("office_person", "email", unique=("email",))
GROUPS: Final = _shelf("office_group", "name", unique=("name",))
INVITATIONS: Final = _shelf("office_invitation", "token_hash", unique=("token_hash",))
DATASETS: Final = _shelf("office_dataset", "office", "name", unique=("office", "name"))
RAISES: Final = _shelf("office_raise", "dataset")
GRANTS: Final = _shelf("office_grant", "dataset", "holder")
REQUESTS: Final = _shelf("office_request", "author")
PROJECTS: Final = _shelf("office_project", "name", "state")
REVISIONS: Final = _shelf("office_revision", "project", "agreement")
REVIEWS: Final = _shelf("office_review", "project")
DECISIONS: Final = _shelf("office_decision", "project")
RUNS: Final = _shelf("office_run", "project")
MODELS: Final = _shelf("office_model", "name")
PROCESSES: Final = _shelf("office_process", "name")
ASSOCIATIONS: Final = _shelf("office_association", "name", "nonce", unique=("nonce",))
HEADS: Final = _shelf("office_head", "office")  # other offices' logs, as they signed them
COSIGNED: Final = _shelf("office_cosigned", "witness")  # ours, as others signed it

LOG: Final = Table(
    "office_log",
    METADATA,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("time", UtcTime, nullable=False),
    Column("actor", Text, nullable=False, index=True),
    Column("actor_name", Text, nullable=False),
    Column("action", Text, nullable=False, index=True),
    Column("resource", Text, nullable=False, index=True),
    Column("outcome", Text, nullable=False),
    Column("facts", Text, nullable=False),
    Column("link", LargeBinary, nullable=False),
)

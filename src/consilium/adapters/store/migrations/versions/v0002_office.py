# SPDX-License-Identifier: Apache-2.0
"""The office's first tables: people, datasets, grants, projects, models, other offices, the log."""

import sqlalchemy as sa
from alembic import op

from consilium.adapters.store.metadata import UtcTime

revision = "0002_office"
down_revision = "0001_ledger"
branch_labels = None
depends_on = None

_SHELVES: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("office", (), ()),
    ("office_role", (), ()),
    ("office_person", ("email",), ("email",)),
    ("office_group", ("name",), ("name",)),
    ("office_invitation", ("token_hash",), ("token_hash",)),
    ("office_dataset", ("office", "name"), ("office", "name")),
    ("office_raise", ("dataset",), ()),
    ("office_grant", ("dataset", "holder"), ()),
    ("office_request", ("author",), ()),
    ("office_project", ("name", "state"), ()),
    ("office_revision", ("project", "agreement"), ()),
    ("office_review", ("project",), ()),
    ("office_decision", ("project",), ()),
    ("office_run", ("project",), ()),
    ("office_model", ("name",), ()),
    ("office_process", ("name",), ()),
    ("office_association", ("name", "nonce"), ("nonce",)),
    ("office_head", ("office",), ()),
    ("office_cosigned", ("witness",), ()),
)


def upgrade() -> None:
    """Makes the tables."""
    for name, searched, unique in _SHELVES:
        _make_shelf(name, searched, unique)
    op.create_table(
        "office_log",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("time", UtcTime(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("actor_name", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("link", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_office_log")),
    )
    for column in ("actor", "action", "resource"):
        op.create_index(op.f(f"ix_office_log_{column}"), "office_log", [column], unique=False)


def _make_shelf(name: str, searched: tuple[str, ...], unique: tuple[str, ...]) -> None:
    rules = [sa.UniqueConstraint(*unique, name=op.f(f"uq_{name}_{'_'.join(unique)}"))]
    op.create_table(
        name,
        sa.Column("id", sa.Text(), nullable=False),
        *(sa.Column(column, sa.Text(), nullable=False) for column in searched),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{name}")),
        *(rules if unique else []),
    )
    for column in searched:
        if column not in unique[:1]:
            op.create_index(op.f(f"ix_{name}_{column}"), name, [column], unique=False)

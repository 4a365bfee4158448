# SPDX-License-Identifier: Apache-2.0
"""Browsers on their way to the hospital's identity provider."""

import sqlalchemy as sa
from alembic import op

revision = "0004_departures"
down_revision = "0003_identity"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "identity_departures",
        sa.Column("state", sa.LargeBinary(length=32), nullable=False),
        sa.Column("browser", sa.LargeBinary(length=32), nullable=False),
        sa.Column("nonce", sa.String(length=64), nullable=False),
        sa.Column("verifier", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("state", name=op.f("pk_identity_departures")),
    )
    op.create_index(
        op.f("ix_identity_departures_expires_at"),
        "identity_departures",
        ["expires_at"],
        unique=False,
    )

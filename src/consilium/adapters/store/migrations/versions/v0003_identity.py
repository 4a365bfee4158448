# SPDX-License-Identifier: Apache-2.0
"""Identity, answers by idempotency key, and the exchange between offices: their first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0003_identity"
down_revision = "0002_office"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "api_answers",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("key_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("request_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_answers")),
        sa.UniqueConstraint("actor", "key_digest", name=op.f("uq_api_answers_actor_key_digest")),
    )
    op.create_index(op.f("ix_api_answers_at"), "api_answers", ["at"], unique=False)
    op.create_table(
        "courier_positions",
        sa.Column("peer", sa.String(length=128), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("position", sa.String(length=128), nullable=False),
        sa.PrimaryKeyConstraint("peer", "kind", name=op.f("pk_courier_positions")),
    )
    op.create_table(
        "identity_links",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("person", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_identity_links")),
    )
    op.create_index(op.f("ix_identity_links_person"), "identity_links", ["person"], unique=False)
    op.create_table(
        "identity_nonces",
        sa.Column("sender", sa.LargeBinary(length=32), nullable=False),
        sa.Column("nonce", sa.LargeBinary(length=32), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sender", "nonce", name=op.f("pk_identity_nonces")),
    )
    op.create_index(
        op.f("ix_identity_nonces_expires_at"), "identity_nonces", ["expires_at"], unique=False
    )
    op.create_table(
        "identity_passwords",
        sa.Column("person", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=512), nullable=False),
        sa.Column("set_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("person", name=op.f("pk_identity_passwords")),
    )
    op.create_table(
        "identity_sessions",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("person", sa.String(length=64), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=False),
        sa.Column("idle_seconds", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_identity_sessions")),
    )
    op.create_index(
        op.f("ix_identity_sessions_person"), "identity_sessions", ["person"], unique=False
    )
    op.create_table(
        "identity_tokens",
        sa.Column("token", sa.String(length=128), nullable=False),
        sa.Column("subject", sa.String(length=128), nullable=False),
        sa.Column("project", sa.String(length=128), nullable=False),
        sa.Column("made_by", sa.String(length=64), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("token", name=op.f("pk_identity_tokens")),
    )
    op.create_index(
        op.f("ix_identity_tokens_made_by"), "identity_tokens", ["made_by"], unique=False
    )
    op.create_index(
        op.f("ix_identity_tokens_project"), "identity_tokens", ["project"], unique=False
    )
    op.create_table(
        "identity_tries",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("subject", sa.LargeBinary(length=32), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity_tries")),
    )
    op.create_index(op.f("ix_identity_tries_at"), "identity_tries", ["at"], unique=False)
    op.create_index(op.f("ix_identity_tries_subject"), "identity_tries", ["subject"], unique=False)

# SPDX-License-Identifier: Apache-2.0
"""The privacy ledger's first tables."""

import sqlalchemy as sa
from alembic import op

from consilium.adapters.store.metadata import UtcTime

revision = "0001_ledger"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "ledger_cap",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epsilon", sa.Double(), nullable=False),
        sa.Column("delta", sa.Double(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_cap")),
    )
    op.create_table(
        "ledger_cohort",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("charged", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_cohort")),
    )
    op.create_table(
        "ledger_dataset",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("epsilon", sa.Double(), nullable=False),
        sa.Column("delta", sa.Double(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("charged", sa.BigInteger(), nullable=False),
        sa.Column("frozen", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_dataset")),
        sa.UniqueConstraint("name", name=op.f("uq_ledger_dataset_name")),
    )
    op.create_table(
        "ledger_patient",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("pseudonym", sa.Text(), nullable=False),
        sa.Column("cohort", sa.Integer(), nullable=False),
        sa.Column("opted_out", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["cohort"], ["ledger_cohort.id"], name=op.f("fk_ledger_patient_cohort_ledger_cohort")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_patient")),
        sa.UniqueConstraint("pseudonym", name=op.f("uq_ledger_patient_pseudonym")),
    )
    op.create_index(op.f("ix_ledger_patient_cohort"), "ledger_patient", ["cohort"], unique=False)
    op.create_index(
        op.f("ix_ledger_patient_opted_out"), "ledger_patient", ["opted_out"], unique=False
    )
    op.create_table(
        "ledger_reservation",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("dataset", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("event", sa.LargeBinary(), nullable=False),
        sa.Column("slack", sa.Double(), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("committed", sa.Integer(), nullable=False),
        sa.Column("last_round", sa.Integer(), nullable=False),
        sa.Column("dataset_cost", sa.BigInteger(), nullable=False),
        sa.Column("patient_cost", sa.BigInteger(), nullable=False),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset"],
            ["ledger_dataset.id"],
            name=op.f("fk_ledger_reservation_dataset_ledger_dataset"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_reservation")),
        sa.UniqueConstraint("key", name=op.f("uq_ledger_reservation_key")),
    )
    op.create_index(
        op.f("ix_ledger_reservation_dataset"), "ledger_reservation", ["dataset"], unique=False
    )
    op.create_index(
        op.f("ix_ledger_reservation_project"), "ledger_reservation", ["project"], unique=False
    )
    op.create_index(op.f("ix_ledger_reservation_run"), "ledger_reservation", ["run"], unique=False)
    op.create_table(
        "ledger_entry",
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("time", UtcTime(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("dataset", sa.Integer(), nullable=True),
        sa.Column("reservation", sa.Integer(), nullable=True),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("link", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset"], ["ledger_dataset.id"], name=op.f("fk_ledger_entry_dataset_ledger_dataset")
        ),
        sa.ForeignKeyConstraint(
            ["reservation"],
            ["ledger_reservation.id"],
            name=op.f("fk_ledger_entry_reservation_ledger_reservation"),
        ),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_ledger_entry")),
        sa.UniqueConstraint("key", name=op.f("uq_ledger_entry_key")),
    )
    op.create_index(op.f("ix_ledger_entry_dataset"), "ledger_entry", ["dataset"], unique=False)
    op.create_index(
        op.f("ix_ledger_entry_reservation"), "ledger_entry", ["reservation"], unique=False
    )
    op.create_table(
        "ledger_member",
        sa.Column("dataset", sa.Integer(), nullable=False),
        sa.Column("patient", sa.Integer(), nullable=False),
        sa.Column("entry", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset"], ["ledger_dataset.id"], name=op.f("fk_ledger_member_dataset_ledger_dataset")
        ),
        sa.ForeignKeyConstraint(
            ["patient"], ["ledger_patient.id"], name=op.f("fk_ledger_member_patient_ledger_patient")
        ),
        sa.PrimaryKeyConstraint("dataset", "patient", name=op.f("pk_ledger_member")),
    )
    op.create_index(op.f("ix_ledger_member_patient"), "ledger_member", ["patient"], unique=False)
    op.create_table(
        "ledger_part",
        sa.Column("reservation", sa.Integer(), nullable=False),
        sa.Column("cohort", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["cohort"], ["ledger_cohort.id"], name=op.f("fk_ledger_part_cohort_ledger_cohort")
        ),
        sa.ForeignKeyConstraint(
            ["reservation"],
            ["ledger_reservation.id"],
            name=op.f("fk_ledger_part_reservation_ledger_reservation"),
        ),
        sa.PrimaryKeyConstraint("reservation", "cohort", name=op.f("pk_ledger_part")),
    )
    op.create_index(op.f("ix_ledger_part_cohort"), "ledger_part", ["cohort"], unique=False)

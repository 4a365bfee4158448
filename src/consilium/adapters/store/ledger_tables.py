# SPDX-License-Identifier: Apache-2.0
"""The tables of the privacy ledger: what is in each, and which is the truth.

`ledger_entry` is the truth: every change of the ledger is one hash-chained row of it. The other
tables are what the entries add up to, kept so that a charge reads a few rows; `verify` replays
the entries and compares. Costs are integers, in units of Renyi divergence that are rounded up
(`governance.composition`), so sums are exact in any order and in either database.

Patients whose histories are equal are one cohort, with one account. A round of a run is one row
in `ledger_entry` and one number in `ledger_reservation`, however many patients take part.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Integer,
    LargeBinary,
    Table,
    Text,
)

from consilium.adapters.store.metadata import METADATA, UtcTime

CAP: Final = Table(  # of every patient at this office: one row
    "ledger_cap",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epsilon", Double, nullable=False),
    Column("delta", Double, nullable=False),
    Column("place", Integer, nullable=False),  # of the order in `ORDERS`; never changes
)

DATASET: Final = Table(
    "ledger_dataset",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False, unique=True),
    Column("epsilon", Double, nullable=False),
    Column("delta", Double, nullable=False),
    Column("place", Integer, nullable=False),
    Column("charged", BigInteger, nullable=False),  # spent and held
    Column("frozen", Boolean, nullable=False),
)

COHORT: Final = Table(
    "ledger_cohort",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("charged", BigInteger, nullable=False),
)

PATIENT: Final = Table(
    "ledger_patient",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("pseudonym", Text, nullable=False, unique=True),
    Column("cohort", ForeignKey(COHORT.c.id), nullable=False, index=True),
    Column("opted_out", Boolean, nullable=False, index=True),
)

MEMBER: Final = Table(  # which patients a dataset has
    "ledger_member",
    METADATA,
    Column("dataset", ForeignKey(DATASET.c.id), primary_key=True),
    Column("patient", ForeignKey(PATIENT.c.id), primary_key=True, index=True),
    Column("entry", Integer, nullable=False),  # that added it
)

RESERVATION: Final = Table(
    "ledger_reservation",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("dataset", ForeignKey(DATASET.c.id), nullable=False, index=True),
    Column("key", Text, nullable=False, unique=True),
    Column("project", Text, nullable=False, index=True),
    Column("run", Text, nullable=False, index=True),
    Column("event", LargeBinary, nullable=False),  # of one step, canonical
    Column("slack", Double, nullable=False),
    Column("steps", Integer, nullable=False),
    Column("committed", Integer, nullable=False),
    Column("last_round", Integer, nullable=False),
    Column("dataset_cost", BigInteger, nullable=False),  # of one step, at the dataset's order
    Column("patient_cost", BigInteger, nullable=False),  # of one step, at the patients' order
    Column("is_open", Boolean, nullable=False),
)

PART: Final = Table(  # which cohorts take part in a reservation
    "ledger_part",
    METADATA,
    Column("reservation", ForeignKey(RESERVATION.c.id), primary_key=True),
    Column("cohort", ForeignKey(COHORT.c.id), primary_key=True, index=True),
)

ENTRY: Final = Table(
    "ledger_entry",
    METADATA,
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("time", UtcTime, nullable=False),
    Column("kind", Text, nullable=False),
    Column("dataset", ForeignKey(DATASET.c.id), index=True),
    Column("reservation", ForeignKey(RESERVATION.c.id), index=True),
    Column("key", Text, unique=True),  # of a spend that may be asked for twice
    Column("body", Text, nullable=False),  # canonical JSON
    Column("link", LargeBinary, nullable=False),  # digest of the link before and of this row
)

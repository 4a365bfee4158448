# SPDX-License-Identifier: Apache-2.0
"""The one catalogue of tables, and the column types that SQLite and PostgreSQL must agree on.

Tables are declared in `*_tables.py`, on `METADATA`; `schema` imports all of them. They come into
being by migrations alone, and a test holds both equal.
"""

from datetime import UTC, datetime
from typing import Final, final

from sqlalchemy import DateTime, Dialect, MetaData
from sqlalchemy.types import TypeDecorator

METADATA: Final = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


@final
class UtcTime(TypeDecorator[datetime]):
    """A moment, aware and in UTC, to the microsecond; a naive one is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Returns what the database keeps: SQLite has no time zones."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone; expected an aware one, in UTC")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Returns the moment with its zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)

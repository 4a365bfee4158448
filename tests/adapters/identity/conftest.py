# SPDX-License-Identifier: Apache-2.0
"""A database in memory with the tables of identity, a clock that tests move, counted randomness."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, create_engine

import consilium.adapters.store.identity_tables  # noqa: F401 - makes the tables known
from consilium.adapters.store.metadata import METADATA

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    METADATA.create_all(engine)
    with engine.connect() as opened:
        yield opened
    engine.dispose()

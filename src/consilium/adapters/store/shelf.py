# SPDX-License-Identifier: Apache-2.0
"""A table of whole values of one type, each under its id; what is searched for has a column."""

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar, final

import msgspec
from sqlalchemy import ColumnElement, Connection, Table, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from consilium.errors import Conflict, NotFound

ValueT = TypeVar("ValueT")


@final
class Shelf(Generic[ValueT]):
    """Values of one type in one table."""

    def __init__(
        self,
        table: Table,
        kind: type[ValueT],
        searched: Callable[[ValueT], Mapping[str, str]] = lambda _: {},
    ) -> None:
        self.table, self._kind, self._searched = table, kind, searched
        self._what = table.name.removeprefix("office_")

    def add(self, connection: Connection, name: str, value: ValueT) -> None:
        """Puts a new value under `name`.

        Raises:
            Conflict: Something with this id, or a column that must differ, is there.
        """
        try:
            with connection.begin_nested():
                connection.execute(insert(self.table).values(id=name, **self._row(value)))
        except IntegrityError:
            raise Conflict(
                f"this {self._what} is there already; expected another name: choose one"
            ) from None

    def put(self, connection: Connection, name: str, value: ValueT) -> None:
        """Replaces the value under `name`.

        Raises:
            NotFound: There is none.
            Conflict: A column that must differ is another's.
        """
        change = update(self.table).where(self.table.c.id == name)
        try:
            with connection.begin_nested():
                changed = connection.execute(change.values(**self._row(value))).rowcount
        except IntegrityError:
            raise Conflict(
                f"another {self._what} has this name; expected a new one: choose one"
            ) from None
        if changed != 1:
            raise self._missing(name)

    def get(self, connection: Connection, name: str) -> ValueT:
        """Returns the value under `name`.

        Raises:
            NotFound: There is none.
        """
        found = self.peek(connection, name)
        if found is None:
            raise self._missing(name)
        return found

    def peek(self, connection: Connection, name: str) -> ValueT | None:
        """Returns the value under `name`, or None."""
        query = select(self.table.c.body).where(self.table.c.id == name)
        body = connection.execute(query).scalar()
        return None if body is None else self._value(body)

    def where(self, connection: Connection, *conditions: ColumnElement[bool]) -> list[ValueT]:
        """Returns the values for which every condition holds, by id: oldest first, for ULIDs."""
        query = select(self.table.c.body).where(*conditions).order_by(self.table.c.id)
        return [self._value(body) for body in connection.execute(query).scalars()]

    def having(self, connection: Connection, column: str, value: str) -> list[ValueT]:
        """Returns the values whose column is this."""
        return self.where(connection, self.table.c[column] == value)

    def drop(self, connection: Connection, name: str) -> None:
        """Takes the value under `name` away."""
        connection.execute(delete(self.table).where(self.table.c.id == name))

    def _row(self, value: ValueT) -> dict[str, str]:
        return {
            **self._searched(value),
            "body": msgspec.json.encode(value, order="sorted").decode(),
        }

    def _value(self, body: str) -> ValueT:
        return msgspec.json.decode(body, type=self._kind)

    def _missing(self, name: str) -> NotFound:
        return NotFound(f"there is no {self._what} {name!r} here; expected one that is listed")

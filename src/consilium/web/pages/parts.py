# SPDX-License-Identifier: Apache-2.0
"""What every page is put together from: links, facts, tags, notices and forms, as values.

Not here: how they look (`templates/pages/parts.html.j2`, `static/style.css`).
Guarantees: a part holds what may be shown and nothing else; the value of a secret field is never
kept, so that neither a page nor its JSON twin can repeat a password.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import final


class Tone(StrEnum):
    """What a tag or a notice means, beside its words; never said by colour alone."""

    GOOD = "good"
    INFORM = "inform"
    WAIT = "wait"
    STOP = "stop"
    QUIET = "quiet"


class Kind(StrEnum):
    """What a field of a form takes."""

    TEXT = "text"
    EMAIL = "email"
    SECRET = "password"  # noqa: S105 - what HTML calls it
    NUMBER = "number"
    DATE = "date"
    LINES = "lines"
    CHOICE = "choice"
    SEVERAL = "several"
    FILE = "file"


@final
@dataclass(frozen=True, slots=True)
class Link:
    """Where to go, and what it is called there."""

    text: str
    href: str


@final
@dataclass(frozen=True, slots=True)
class Tag:
    """A word or two on the state of something."""

    text: str
    tone: Tone = Tone.QUIET


@final
@dataclass(frozen=True, slots=True)
class Fact:
    """One line of a summary list; the note stands below the value."""

    name: str
    value: str
    note: str = ""


@final
@dataclass(frozen=True, slots=True)
class Notice:
    """What just happened, or what to know before anything else on the page."""

    tone: Tone
    title: str
    text: str = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One answer of a field with choices."""

    value: str
    text: str
    hint: str = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One question of a form, its present answer, and what is wrong with that.

    Attributes:
        name: As it is posted.
        label: The question.
        hint: One sentence below it.
        value: The present answer; for `SEVERAL`, separated by commas. Always empty for secrets.
        error: What is wrong and what to do; empty if nothing is.
        autocomplete: The purpose, as HTML names it, so that a browser can fill it in.
        unit: Shown behind a number.
        step: Of a number; "any" takes all.
        required: Whether an empty answer is refused.
    """

    name: str
    label: str
    kind: Kind = Kind.TEXT
    hint: str = ""
    value: str = ""
    options: tuple[Option, ...] = ()
    error: str = ""
    autocomplete: str = "off"
    unit: str = ""
    step: str = "any"
    required: bool = True

    def __post_init__(self) -> None:
        if self.kind is Kind.SECRET and self.value:
            raise ValueError(f"the field {self.name!r} is secret: leave its value out")
        if self.kind in {Kind.CHOICE, Kind.SEVERAL} and not self.options:
            raise ValueError(f"the field {self.name!r} has nothing to choose from")

    @property
    def chosen(self) -> tuple[str, ...]:
        """The answers of a field that takes several."""
        return tuple(one for one in self.value.split(",") if one)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Questions that are posted together.

    Attributes:
        action: Where to.
        submit: What the button says: a verb and its object.
        tone: `STOP` where it cannot be undone.
        back: Where one goes who does not want to.
        method: "get" for a question that changes nothing.
    """

    action: str
    fields: tuple[Field, ...]
    submit: str
    tone: Tone = Tone.INFORM
    back: Link | None = None
    method: str = "post"

    @property
    def errors(self) -> tuple[Field, ...]:
        """The fields whose answer was refused, in order."""
        return tuple(field for field in self.fields if field.error)

    @property
    def uploads(self) -> bool:
        """Whether a file goes with it."""
        return any(field.kind is Kind.FILE for field in self.fields)

    def with_answers(self, answers: Mapping[str, str], errors: Mapping[str, str]) -> "Form":
        """Returns the form as it was sent, with errors beside their fields.

        Raises:
            ValueError: An error is of a field that this form does not have.
        """
        unknown = set(errors) - {field.name for field in self.fields}
        if unknown:
            raise ValueError(f"no field of this form is called {sorted(unknown)}")
        return replace(self, fields=tuple(_answered(one, answers, errors) for one in self.fields))


def _answered(field: Field, answers: Mapping[str, str], errors: Mapping[str, str]) -> Field:
    value = "" if field.kind is Kind.SECRET else answers.get(field.name, "")
    return replace(field, value=value, error=errors.get(field.name, ""))


# -- Around a page --------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What stands around every page; no part of its JSON twin.

    Attributes:
        office: Whose pages these are, "Hospital A".
        user: Who is signed in; empty for nobody.
        roles: Of that person, in words.
        here: The path of this page, without its query.
        menu: Where this person may go.
        notice: Of what was done last.
    """

    office: str
    user: str = ""
    roles: str = ""
    here: str = "/"
    menu: tuple[Link, ...] = ()
    notice: Notice | None = None

    @property
    def section(self) -> str:
        """The entry of the menu that this page is under; empty for none."""
        under = (one.href for one in self.menu if _within(self.here, one.href))
        return max(under, key=len, default="")


def _within(path: str, section: str) -> bool:
    return path == section or path.startswith(f"{section.rstrip('/')}/")

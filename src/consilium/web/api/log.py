# SPDX-License-Identifier: Apache-2.0
"""The audit log: read, verified, exported; and the office's settings, which it records."""

from datetime import datetime
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime, Field, JsonValue

from consilium.adapters.office.values import LogFilter, Page, Settings
from consilium.errors import ConfigError
from consilium.governance.audit_log import Entry
from consilium.governance.policy import Policy
from consilium.web.access import CurrentActor, TheOffice
from consilium.web.api.files import FILE, file_answer
from consilium.web.api.shapes import (
    MOST,
    Answer,
    Asked,
    Editing,
    Hex,
    Line,
    Listed,
    Slice,
    listed_part,
    read_cursor,
    tagged,
)

router = APIRouter(tags=["log and settings"])
Word = Annotated[str, Field(max_length=200)]


class EntryAnswer(Answer):
    """One row of the log; `link` is the hash of it and of all before it."""

    sequence: int
    time: datetime
    actor: str
    actor_name: str
    action: str
    resource: str
    outcome: str
    facts: str
    link: Hex


class FindingAnswer(Answer):
    """What is wrong, at which entry."""

    sequence: int
    what: str


class LogReportAnswer(Answer):
    """What a verification found."""

    intact: bool
    entries: int
    findings: list[FindingAnswer]
    witnessed: int
    witness: str | None
    witnessed_at: str | None


class SettingsAnswer(Answer):
    """The policy of this office, its title, and how long a session may idle."""

    policy: dict[str, JsonValue]
    title: str
    idle_minutes: int
    version: int


class SettingsAsked(Asked):
    """New settings; the policy's keys are those of the answer."""

    policy: dict[str, JsonValue]
    title: Annotated[Line, Field(max_length=200)]
    idle_minutes: Annotated[int, Field(ge=1, le=60)]


class LogQuery(Asked):
    """Which entries; what is left out is not asked for."""

    actor: Word | None = None
    action: Word | None = None
    resource: Word | None = None
    outcome: Word | None = None
    since: AwareDatetime | None = None
    cursor: Annotated[str, Field(max_length=200)] | None = None
    limit: Annotated[int, Field(ge=1, le=MOST)] = 50

    def filter(self) -> LogFilter:
        """Returns which."""
        return LogFilter(
            actor=self.actor,
            action=self.action,
            resource=self.resource,
            outcome=self.outcome,
            since=self.since,
        )

    def slice(self) -> Slice:
        """Returns which part of them."""
        return Slice(cursor=self.cursor, limit=self.limit)


@router.get("/log")
def find_entries(
    office: TheOffice, actor: CurrentActor, which: Annotated[LogQuery, Query()]
) -> Listed[EntryAnswer]:
    """Returns entries in order, from the cursor on."""
    page = Page(beyond=_place(which.cursor), most=which.limit + 1)
    found = office.log.entries(actor, which.filter(), page)
    return listed_part(found, which.slice(), EntryAnswer.model_validate, _key)


@router.get("/log/latest")
def find_latest_entries(
    office: TheOffice, actor: CurrentActor, which: Annotated[LogQuery, Query()]
) -> Listed[EntryAnswer]:
    """Returns entries, newest first."""
    page = Page(beyond=_place(which.cursor), most=which.limit + 1)
    found = office.log.latest(actor, which.filter(), page)
    return listed_part(found, which.slice(), EntryAnswer.model_validate, _key)


@router.get("/log/verification")
def verify_log(actor: CurrentActor, office: TheOffice) -> LogReportAnswer:
    """Checks the chain, and the signatures of other offices under its heads."""
    return LogReportAnswer.model_validate(office.log.verify(actor))


@router.get("/log/file", response_class=Response, responses=FILE)
def export_log(actor: CurrentActor, office: TheOffice) -> Response:
    """Returns all entries and witnessed heads as JSON lines."""
    return file_answer(office.log.export(actor), "audit-log.jsonl")


# -- Settings -------------------------------------------------------------------------


@router.get("/settings")
def get_settings(actor: CurrentActor, office: TheOffice, response: Response) -> SettingsAnswer:
    """Returns the settings."""
    return tagged(response, _settings(office.settings.get(actor)))


@router.put("/settings")
def change_settings(
    asked: SettingsAsked,
    edit: Editing,
) -> SettingsAnswer:
    """Replaces the settings."""
    now = edit.office.settings.get(edit.actor)
    edit.check(_settings(now))
    changed = edit.office.settings.change(
        edit.actor,
        Settings(
            policy=_policy(asked.policy),
            title=asked.title,
            idle_minutes=asked.idle_minutes,
            version=now.version,
        ),
    )
    return edit.tagged(_settings(changed))


def _settings(settings: Settings) -> SettingsAnswer:
    return SettingsAnswer(
        policy=msgspec.json.decode(msgspec.json.encode(settings.policy)),
        title=settings.title,
        idle_minutes=settings.idle_minutes,
        version=settings.version,
    )


def _policy(value: dict[str, JsonValue]) -> Policy:
    try:
        return msgspec.convert(value, Policy)
    except msgspec.ValidationError as error:
        raise ConfigError(f"the policy cannot be used: {error}; expected its keys") from None


def _key(entry: Entry) -> str:
    return str(entry.sequence)


def _place(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    text = read_cursor(cursor)
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise ConfigError("the cursor is not one of the log; expected `next` of it")
    return int(text)

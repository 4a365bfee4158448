# SPDX-License-Identifier: Apache-2.0
"""What the commands of office, dataset, project and log do.

The actor is the person to whom the account that runs the process is linked, by the kernel's word
(`os.getuid`), not by a variable or an option.
"""

import os
import pwd
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, final

import msgspec
import typer

from consilium.adapters.identity.accounts import Accounts
from consilium.adapters.identity.links import FIRST_LASTS, INVITATION
from consilium.adapters.identity.one_time import new_word, word_digest
from consilium.adapters.office.moments import system_clock
from consilium.adapters.office.office import Office, found_office, open_office
from consilium.adapters.office.terms import project_of
from consilium.adapters.office.values import (
    Invited,
    LogFilter,
    NewDataset,
    Page,
    ProjectDraft,
    ProjectView,
    Said,
)
from consilium.adapters.store.ledger_views import Price
from consilium.adapters.whole_files import write_whole
from consilium.errors import ConfigError, DataError, NotFound
from consilium.governance.access import Actor
from consilium.governance.association import OfficeKind
from consilium.governance.contract import Conditions, Purpose, Verdict
from consilium.governance.policy import PRESETS
from consilium.governance.projects import State
from consilium.governance.roles import Person

_WRONG: Final = 2  # exit code of a log that is not intact
_LARGEST: Final = 1 << 26  # bytes of a file that is read


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What `project submit` was given."""

    file: Path
    datasets: tuple[str, ...]
    arm: str
    purpose: str
    ethics: str
    days: int
    runs: int


def login() -> str:
    """Returns the account that runs this process, as the kernel knows it."""
    return pwd.getpwuid(os.getuid()).pw_name


@contextmanager
def acting(folder: Path) -> Iterator[tuple[Office, Actor]]:
    """Opens an office for whoever runs this process."""
    office = open_office(folder)
    try:
        yield office, office.people.operator(login())
    finally:
        office.close()


# -- Office ---------------------------------------------------------------------------


def init(
    folder: Path, chosen: tuple[str, OfficeKind, str], owner: str | None, *, as_json: bool
) -> None:
    """Makes an office; with `owner`, whoever runs this is the Owner.

    Raises:
        ConfigError: The owner is not EMAIL=NAME.
    """
    name, kind, policy = chosen
    email, _, person = (owner or "").partition("=")
    if owner is not None and not person:
        raise ConfigError(f"--owner {owner!r}; expected EMAIL=NAME, as anna@x.org=Anna")
    office = found_office(folder, name, kind, policy=PRESETS[policy])
    word = new_word(os.urandom)
    token, until = word_digest(INVITATION, word), system_clock() + FIRST_LASTS
    office.people.first_invitation(token, until, login=login())
    told: dict[str, object] = {"office": name, "kind": kind, "folder": str(folder)}
    if owner is not None:
        who = office.people.redeem(token, lambda _c, _p: None, named=(person, email))
        word, _ = Accounts(office).reset(office.people.actor(who.id), who.id)
        told["owner"] = email
    office.close()
    told["link"] = f"/links/{word}"
    if as_json:
        show_json(told)
        return
    typer.echo(f"Office {name} ({kind}) in {folder}; policy {policy}. Its key stays there.")
    typer.echo(f"For a password on the pages, once: /links/{word}")
    typer.echo(f"Next:   consilium serve {folder}")


def users(folder: Path, words: str, *, as_json: bool) -> None:
    """Lists persons."""
    with acting(folder) as (office, actor):
        found = office.people.find(actor, words)
    if as_json:
        show_json([_person(one) for one in found])
        return
    for one in found:
        typer.echo(f"{one.email:32} {one.name:24} {one.state:8} {', '.join(sorted(one.roles))}")


def invite(folder: Path, email: str, name: str, roles: tuple[str, ...], *, as_json: bool) -> None:
    """Prints a one-time word."""
    with acting(folder) as (office, actor):
        whom = Invited(name=name, email=email, roles=frozenset(roles))
        word, kept = Accounts(office).invite(actor, whom)
    if as_json:
        show_json({"email": email, "link": f"/links/{word}", "expires": kept.expires})
        return
    typer.echo(f"For {name}, once, until {kept.expires:%Y-%m-%d %H:%M} UTC: /links/{word}")


def link(folder: Path, email: str, account: str, *, as_json: bool) -> None:
    """Links an account of the machine."""
    with acting(folder) as (office, actor):
        person = office.people.link(actor, _id_of(office, email), account)
    tell(_person(person), f"{account} acts as {person.name}.", as_json=as_json)


def revoke_person(folder: Path, email: str, reason: str, *, as_json: bool) -> None:
    """Ends an account."""
    with acting(folder) as (office, actor):
        person = office.people.revoke(actor, _id_of(office, email), reason)
    tell(_person(person), f"{person.name} may do nothing here any more.", as_json=as_json)


def _id_of(office: Office, email: str) -> str:
    found = office.people.by_email(email)
    if found is None:
        raise NotFound(f"nobody here has the address {email!r}; see: consilium office users")
    return found.id


def _person(one: Person) -> dict[str, object]:
    return {
        "id": one.id,
        "name": one.name,
        "email": one.email,
        "roles": sorted(one.roles),
        "groups": sorted(one.groups),
        "state": one.state,
    }


# -- Datasets -------------------------------------------------------------------------


def register(
    folder: Path, said: tuple[str, Path, str, tuple[str, ...], float | None], *, as_json: bool
) -> None:
    """Registers an imported folder."""
    name, source, description, tags, cap = said
    with acting(folder) as (office, actor):
        new = NewDataset(name=name, folder=str(source), description=description, tags=tags, cap=cap)
        card = office.datasets.register(actor, new)
    tell(card, f"{card.name}: {card.size()}, fingerprint {card.fingerprint[:12]}", as_json=as_json)


def datasets(folder: Path, words: str, tags: tuple[str, ...], *, as_json: bool) -> None:
    """Lists cards."""
    with acting(folder) as (office, actor):
        found = office.datasets.search(actor, words, tags)
    if as_json:
        show_json(found)
        return
    for card in found:
        typer.echo(f"{card.office:20} {card.name:24} {card.state:10} {card.size()}")


def end_dataset(folder: Path, name: str, reason: str, *, for_good: bool, as_json: bool) -> None:
    """Freezes or withdraws a dataset."""
    with acting(folder) as (office, actor):
        card = office.datasets.named(actor, office.desk.name, name)
        act = office.datasets.withdraw if for_good else office.datasets.freeze
        card = act(actor, card.id, reason)
    tell(card, f"{card.name} is {card.state}.", as_json=as_json)


def lower_cap(folder: Path, name: str, epsilon: float, *, as_json: bool) -> None:
    """Lowers a dataset's cap."""
    with acting(folder) as (office, actor):
        card = office.datasets.named(actor, office.desk.name, name)
        office.datasets.lower_cap(actor, card.id, epsilon)
    tell(card, f"The cap of {card.name} is {epsilon:g}.", as_json=as_json)


def propose(folder: Path, name: str, epsilon: float | None, reason: str, *, as_json: bool) -> None:
    """Proposes a higher cap, or with None to unfreeze."""
    with acting(folder) as (office, actor):
        card = office.datasets.named(actor, office.desk.name, name)
        asked = office.datasets.propose(actor, card.id, epsilon, reason)
    words = f"Proposal {asked.id} waits for a second person: consilium dataset confirm {asked.id}"
    tell(asked, words, as_json=as_json)


def confirm(folder: Path, proposal: str, *, as_json: bool) -> None:
    """Makes somebody else's proposal true."""
    with acting(folder) as (office, actor):
        done = office.datasets.confirm(actor, proposal)
    what = "unfrozen" if done.epsilon is None else f"at {done.epsilon:g}"
    tell(done, f"The dataset is {what}, for two people.", as_json=as_json)


def opt_out(folder: Path, pseudonym: str, *, as_json: bool) -> None:
    """Leaves a patient out from now on."""
    with acting(folder) as (office, actor):
        office.datasets.opt_out(actor, pseudonym)
    words = "From the next round on this patient takes no part."
    tell({"opted_out": 1}, words, as_json=as_json)


# -- Projects -------------------------------------------------------------------------


def submit(folder: Path, asked: Asked, *, dry_run: bool, as_json: bool) -> None:
    """Makes and submits a project, or shows what it would be.

    Raises:
        ConfigError: A dataset is not SITE=DATASET.
    """
    pairs = [one.partition("=") for one in asked.datasets]
    if any(not name for _, _, name in pairs):
        raise ConfigError(f"--dataset {' '.join(asked.datasets)}; expected SITE=DATASET for each")
    draft = ProjectDraft(
        toml=_read(asked.file).decode(),
        arm=asked.arm,
        datasets={site: name for site, _, name in pairs},
        purpose=Purpose(text=asked.purpose, ethics=asked.ethics),
        days=asked.days,
        max_runs=asked.runs,
    )
    with acting(folder) as (office, actor):
        if dry_run:
            show_json(office.projects.preview(actor, draft))
            return
        made = office.projects.submit(actor, office.projects.draft(actor, draft).id)
    _tell_state(made, as_json=as_json)


def projects(folder: Path, states: tuple[str, ...], *, as_json: bool) -> None:
    """Lists projects."""
    unknown = [one for one in states if one not in set(State)]
    if unknown:
        raise ConfigError(f"state {unknown[0]!r}; expected one of {', '.join(State)}")
    with acting(folder) as (office, actor):
        found = office.projects.find(actor, [State(one) for one in states])
    if as_json:
        show_json(found)
        return
    for one in found:
        typer.echo(f"{one.name:24} {one.state:14} turn: {one.turn:14} {one.digest[:12]} {one.id}")


def show(folder: Path, project: str, *, toml: bool, as_json: bool) -> None:
    """Shows one project."""
    with acting(folder) as (office, actor):
        one = office.projects.get(actor, project)
        if toml:
            typer.echo(project_of(one.contract).resolved(), nl=False)
            return
        price = office.projects.price(actor, one.id) if _ours(office, one) else None
    if as_json:
        show_json({"project": one, "price": price})
        return
    for line in _described(one, price):
        typer.echo(line)


def _ours(office: Office, one: ProjectView) -> bool:
    return office.desk.name in one.contract.datasets


def _described(one: ProjectView, price: Price | None) -> Iterator[str]:
    terms, promised = one.contract, one.contract.guarantee
    yield f"{one.name}: {one.state}, turn: {one.turn}; from {one.author_name}"
    yield f"purpose   {terms.purpose.text} {terms.purpose.ethics}"
    yield f"arm       {terms.arm}; {', '.join(sorted(terms.datasets))}"
    if promised is None:
        yield "promise   none: every patient's data could be read from the result"
    else:
        yield (
            f"promise   epsilon {promised.epsilon:g} (outsider), {promised.epsilon_participant:g} "
            f"(curious participant) at delta {promised.delta:g}, per {promised.unit}, a run"
        )
    if price is not None:
        yield (
            f"price     epsilon {price.before:.4g} now, {price.after:.4g} with it, of "
            f"{price.cap:g} at delta {price.delta:g}"
        )
    yield f"until     {one.expires:%Y-%m-%d}; runs {len(one.runs)} of {one.max_runs}"
    for reason in one.refusals:
        yield f"REFUSED   {reason}"
    for said in one.decisions:
        yield f"{said.site:9} {said.verdict or 'has not spoken'} {said.words}".rstrip()
    yield f"digest    {one.digest}"
    yield f"words     {one.words}"


def begin_review(folder: Path, project: str, *, as_json: bool) -> None:
    """Begins a review."""
    with acting(folder) as (office, actor):
        one = office.projects.open(actor, _project_id(office, actor, project))
    _tell_state(one, as_json=as_json)


def approve(
    folder: Path,
    project: str,
    digest: str,
    conditions: tuple[int | None, int | None, int],
    *,
    as_json: bool,
) -> None:
    """Says yes."""
    days, runs, reviewers = conditions
    until = None if days is None else system_clock() + timedelta(days=days)
    asked = Conditions(expires=until, max_runs=runs, reviewers=reviewers)
    said = Said(verdict=Verdict.APPROVE, digest=digest, conditions=asked)
    _say(folder, project, said, as_json=as_json)


def object_to(
    folder: Path, project: str, said: tuple[str, str], *, refuse: bool, as_json: bool
) -> None:
    """Asks, or says no."""
    verdict = Verdict.REFUSE if refuse else Verdict.ASK
    _say(folder, project, Said(verdict=verdict, digest=said[0], words=said[1]), as_json=as_json)


def _say(folder: Path, project: str, said: Said, *, as_json: bool) -> None:
    with acting(folder) as (office, actor):
        one = office.projects.review(actor, _project_id(office, actor, project), said)
    _tell_state(one, as_json=as_json)


def revoke_project(folder: Path, project: str, reason: str, *, as_json: bool) -> None:
    """Ends a project."""
    with acting(folder) as (office, actor):
        one = office.projects.revoke(actor, _project_id(office, actor, project), reason)
    _tell_state(one, as_json=as_json)


def diff(folder: Path, project: str, before: int, after: int, *, as_json: bool) -> None:
    """Shows what changed."""
    with acting(folder) as (office, actor):
        lines = office.projects.difference(actor, project, before, after)
    tell({"difference": lines.splitlines()}, lines or "nothing changed", as_json=as_json)


def export(folder: Path, project: str, out: Path, *, as_json: bool) -> None:
    """Writes a project for other offices."""
    with acting(folder) as (office, actor):
        _write(out, office.exchange.export(actor, project))
    tell({"file": str(out)}, f"Wrote {out}", as_json=as_json)


def take(folder: Path, file: Path, *, as_json: bool) -> None:
    """Takes a project from another office."""
    with acting(folder) as (office, actor):
        one = office.exchange.take(actor, _read(file))
    _tell_state(one, as_json=as_json)


def _project_id(office: Office, actor: Actor, project: str) -> str:
    return office.projects.get(actor, project).id


def _tell_state(one: ProjectView, *, as_json: bool) -> None:
    words = f"{one.name}: {one.state}, turn: {one.turn}\ndigest {one.digest}\nwords  {one.words}"
    tell(one, words, as_json=as_json)


# -- Log ------------------------------------------------------------------------------


def show_log(
    folder: Path, which: tuple[str | None, str | None], most: int, *, as_json: bool
) -> None:
    """Shows entries."""
    with acting(folder) as (office, actor):
        wanted = LogFilter(actor=which[0], action=which[1])
        found = office.log.latest(actor, wanted, Page(most=most))
    if as_json:
        show_json(found)
        return
    for one in found:
        typer.echo(
            f"{one.sequence:6} {one.time:%Y-%m-%d %H:%M} {one.actor_name}: {one.action} "
            f"{one.resource} {one.outcome} {one.facts}"
        )


def verify_log(folder: Path, heads: tuple[Path, ...], *, as_json: bool) -> None:
    """Checks the log; exit code 2 if it is not intact."""
    messages = [head for file in heads for head in _heads(file)]
    with acting(folder) as (office, actor):
        report = office.log.verify(actor, messages)
    if as_json:
        show_json(report)
    else:
        for finding in report.findings:
            typer.echo(f"entry {finding.sequence} {finding.what}")
        seen = f"; {report.witness} signed {report.witnessed}" if report.witness else ""
        word = "intact" if report.intact else "NOT intact"
        typer.echo(f"{report.entries} entries, {word}{seen}")
    if not report.intact:
        raise typer.Exit(_WRONG)


def export_log(folder: Path, out: Path, *, as_json: bool) -> None:
    """Writes the log."""
    with acting(folder) as (office, actor):
        _write(out, office.log.export(actor))
    tell({"file": str(out)}, f"Wrote {out}", as_json=as_json)


def held(folder: Path, other: str, out: Path, *, as_json: bool) -> None:
    """Writes what is held of another office's log."""
    with acting(folder) as (office, actor):
        found = office.log.held(actor, other)
        _write(out, msgspec.json.encode(found))
    told = {"file": str(out), "heads": len(found)}
    tell(told, f"Wrote {len(found)} heads of {other} to {out}", as_json=as_json)


def _heads(file: Path) -> Sequence[bytes]:
    try:
        return msgspec.json.decode(_read(file), type=list[bytes])
    except msgspec.MsgspecError:
        raise DataError(
            f"{file.name} holds no heads; expected what `consilium log held` wrote"
        ) from None


# -- Files and words ------------------------------------------------------------------


def _read(file: Path) -> bytes:
    try:
        if file.stat().st_size > _LARGEST:
            raise DataError(f"{file.name} is larger than {_LARGEST} bytes; expected less")
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read ({type(error).__name__}); expected a file"
        ) from None


def _write(out: Path, data: bytes) -> None:
    if out.exists():
        raise ConfigError(f"{out} exists; expected a new file")
    write_whole(out, data)


def tell(value: object, words: str, *, as_json: bool) -> None:
    """Prints a value as JSON, or words of it."""
    if as_json:
        show_json(value)
    else:
        typer.echo(words)


def show_json(value: object | Mapping[str, object]) -> None:
    """Prints a value as JSON."""
    typer.echo(msgspec.json.encode(value).decode())

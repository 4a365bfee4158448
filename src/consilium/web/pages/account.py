# SPDX-License-Identifier: Apache-2.0
"""Signing in and out, links that work once, one's own account, and the first run.

Anonymous callers are welcome on the pages that are marked so, and on no other.
"""

from typing import Final

from fastapi import APIRouter, Request, Response
from starlette.responses import RedirectResponse

from consilium.adapters.identity.accounts import Accounts, Founder
from consilium.adapters.office.values import InvitationKind
from consilium.errors import AccessDenied
from consilium.governance.access import Action, Actor, ResourceKind
from consilium.web.access import (
    ANONYMOUS,
    CurrentActor,
    TheAccounts,
    address_of,
    begin_session,
    drop_session,
    maybe_actor,
)
from consilium.web.pages.parts import Field, Form, Kind, Link
from consilium.web.pages.provider import way_to_provider
from consilium.web.pages.showing import Posted, again, may, page, see_other, show, take
from consilium.web.pages.views import ActionView

router = APIRouter(include_in_schema=False)
_LONG: Final = "At least 12 characters; several words are easy to remember."


@router.get("/", openapi_extra=ANONYMOUS, response_model=None)
def first(request: Request) -> Response:
    """Goes to where this reader begins."""
    actor = maybe_actor(request)
    return RedirectResponse("/sign-in" if actor is None else home_of(actor), 303)


def home_of(actor: Actor) -> str:
    """Returns the first page of somebody."""
    if may(actor, Action.SEE_REVIEWS, ResourceKind.PROJECT):
        return "/inbox"
    if may(actor, Action.DECIDE_ASSOCIATION, ResourceKind.ASSOCIATION):
        return "/sites"
    return "/projects"


# -- In and out -----------------------------------------------------------------------


def _sign_in_view(request: Request, following: str) -> ActionView:
    return ActionView(
        title="Sign in",
        cli="consilium office link EMAIL LOGIN",
        lead="No account? An administrator of this office can send you a link.",
        form=Form(
            action=f"/sign-in?next={following}" if following else "/sign-in",
            submit="Sign in",
            back=way_to_provider(request),
            fields=(
                Field(
                    name="email", label="Email address", kind=Kind.EMAIL, autocomplete="username"
                ),
                Field(
                    name="password",
                    label="Password",
                    kind=Kind.SECRET,
                    autocomplete="current-password",
                ),
            ),
        ),
    )


def _own_path(text: str) -> str:
    """Returns a path of this office, or nothing: a link from outside leads nowhere else."""
    plain = text.startswith("/") and not text.startswith(("//", "/\\"))
    return text if plain and text.isprintable() and not set(text) & set(' "<>&?#\\') else ""


@router.get("/sign-in", openapi_extra=ANONYMOUS, response_model=None)
def sign_in(request: Request) -> Response:
    """Shows the form."""
    view = _sign_in_view(request, _own_path(request.query_params.get("next", "")))
    return show(request, None, view)


@router.post("/sign-in", openapi_extra=ANONYMOUS, response_model=None)
def signed_in(request: Request, answers: Posted, accounts: TheAccounts) -> Response:
    """Begins a session, or says that address or password is wrong, never which."""
    following = _own_path(request.query_params.get("next", ""))
    view = _sign_in_view(request, following)

    def act() -> Response:
        word = accounts.sign_in(answers["email"], answers["password"], address_of(request))
        return begin_session(request, word, following or "/")

    try:
        return take(request, None, view, answers, act)
    except AccessDenied as error:
        return again(request, None, view, answers, {"password": str(error)})


@router.post("/sign-out", openapi_extra=ANONYMOUS, response_model=None)
def signed_out(request: Request) -> Response:
    """Ends the session."""
    response = see_other("/sign-in", done="signed-out")
    drop_session(request, response)
    return response


# -- Links that work once -------------------------------------------------------------


def _link_view(word: str, accounts: Accounts) -> ActionView:
    if accounts.is_entry(word):
        return ActionView(
            title="Enter",
            lead="This link lets you in once, without a password.",
            cli="",
            form=Form(action=f"/links/{word}", fields=(), submit="Enter"),
        )
    invitation = accounts.invitation(word)
    founding = not invitation.email
    asked = (
        Field(name="name", label="Your name", autocomplete="name"),
        Field(name="email", label="Email address", kind=Kind.EMAIL, autocomplete="username"),
    )
    reset = invitation.kind is InvitationKind.RESET
    title = "Set up this office" if founding else "New password" if reset else "Welcome"
    lead = (
        "You become its owner. No account existed before, and none has a password of ours."
        if founding
        else f"For {invitation.name}, {invitation.email}. The link works once."
    )
    return ActionView(
        title=title,
        lead=lead,
        cli="",
        form=Form(
            action=f"/links/{word}",
            submit="Set password and enter",
            fields=(
                *(asked if founding else ()),
                _new_password("password", "New password", _LONG),
                _new_password("repeated", "The same again", ""),
            ),
        ),
    )


def _new_password(name: str, label: str, hint: str) -> Field:
    return Field(name=name, label=label, kind=Kind.SECRET, hint=hint, autocomplete="new-password")


@router.get("/links/{word}", openapi_extra=ANONYMOUS, response_model=None)
def link(request: Request, word: str, accounts: TheAccounts) -> Response:
    """Says what a link is for; looking does not use it up."""
    return show(request, None, _link_view(word, accounts))


@router.post("/links/{word}", openapi_extra=ANONYMOUS, response_model=None)
def follow_link(request: Request, word: str, answers: Posted, accounts: TheAccounts) -> Response:
    """Uses a link up."""
    view = _link_view(word, accounts)
    if not view.form.fields:
        return begin_session(request, accounts.enter(word), "/")
    if answers.get("password") != answers.get("repeated"):
        return again(request, None, view, answers, {"repeated": "The two passwords differ."})
    founder = Founder(name=answers.get("name", ""), email=answers.get("email", ""))
    founding = any(field.name == "email" for field in view.form.fields)

    def act() -> Response:
        session = accounts.join(word, answers["password"], founder)
        return begin_session(request, session, "/setup" if founding else "/")

    return take(request, None, view, answers, act)


# -- One's own account ----------------------------------------------------------------


def _account_view(actor: Actor) -> ActionView:
    return ActionView(
        kind="Account",
        title=actor.name,
        lead=f"Roles here: {', '.join(sorted(actor.roles)) or 'none'}.",
        cli="",
        told=("Every other session of yours ends.",),
        form=Form(
            action="/account",
            submit="Change password",
            back=Link("Back", "/"),
            fields=(
                Field(
                    name="old",
                    label="Present password",
                    kind=Kind.SECRET,
                    autocomplete="current-password",
                ),
                _new_password("password", "New password", _LONG),
            ),
        ),
    )


@page(router, "/account")
def account(request: Request, actor: CurrentActor) -> Response:
    """Shows one's own account."""
    return show(request, actor, _account_view(actor))


@router.post("/account", response_model=None)
def change_password(
    request: Request, actor: CurrentActor, answers: Posted, accounts: TheAccounts
) -> Response:
    """Changes one's own password."""
    view = _account_view(actor)

    def act() -> Response:
        word = accounts.change_password(
            actor, answers["old"], answers["password"], address_of(request)
        )
        return begin_session(request, word, "/account?done=saved")

    try:
        return take(request, actor, view, answers, act)
    except AccessDenied as error:
        return again(request, actor, view, answers, {"old": str(error)})

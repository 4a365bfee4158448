# SPDX-License-Identifier: Apache-2.0
"""Signing in by the hospital's identity provider: a link there, and a button on the way back.

The provider's redirect comes from another site, so the browser sends no `SameSite=Strict` cookie
with it. That page therefore does nothing but offer a button; the button's request is this
office's own, carries the cookie of the browser that began, and opens the session.
"""

from datetime import timedelta
from typing import Final
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Request, Response
from starlette.responses import RedirectResponse

from consilium.adapters.identity.provider_sign_in import LASTS, Arrival, ProviderSignIn
from consilium.errors import AccessDenied, NotFound
from consilium.web.access import (
    ANONYMOUS,
    address_of,
    begin_session,
    place_of,
    provider_of,
)
from consilium.web.pages.parts import Form, Link
from consilium.web.pages.showing import show
from consilium.web.pages.views import ActionView

router = APIRouter(include_in_schema=False)
START: Final = "/sign-in/provider"
BACK: Final = "/sign-in/provider/back"


def way_to_provider(request: Request) -> Link | None:
    """Returns the link for the sign-in page; None where no provider is configured."""
    provider = provider_of(request)
    return None if provider is None else Link(f"Sign in with {provider.label}", START)


@router.get(START, openapi_extra=ANONYMOUS, response_model=None)
def leave(request: Request) -> Response:
    """Sends the browser to the provider."""
    provider = _provider(request)
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise AccessDenied("the request comes from another site; expected the sign-in page's link")
    departure = provider.begin(_back(request), address_of(request))
    response = RedirectResponse(departure.address, 303)
    place = place_of(request)
    response.set_cookie(
        _cookie(request),
        departure.word,
        max_age=LASTS // timedelta(seconds=1),
        secure=place.secure,
        httponly=True,
        samesite="strict",
        path="/",
    )
    return response


@router.get(BACK, openapi_extra=ANONYMOUS, response_model=None)
def arrive(request: Request) -> Response:
    """Offers the button; looking does not use the code up."""
    provider, asked = _provider(request), request.query_params
    if not asked.get("code") or not asked.get("state"):
        raise AccessDenied(
            f"{provider.label} did not let this person in; expected its code: start again at the "
            "sign-in page, or use a password"
        )
    kept = {name: asked[name] for name in ("code", "state", "iss") if name in asked}
    view = ActionView(
        title="Sign in",
        lead=f"You come back from {provider.label}. Your session begins with this button.",
        cli="",
        form=Form(
            action=f"{BACK}?{urlencode(kept)}",
            fields=(),
            submit="Continue",
            back=Link("Sign in another way", "/sign-in"),
        ),
    )
    return show(request, None, view)


@router.post(BACK, openapi_extra=ANONYMOUS, response_model=None)
def enter(request: Request) -> Response:
    """Begins a session, or says why not."""
    provider, asked = _provider(request), request.query_params
    word = provider.finish(
        Arrival(
            code=asked.get("code", ""),
            state=asked.get("state", ""),
            issuer=asked.get("iss", ""),
            word=request.cookies.get(_cookie(request), ""),
            back=_back(request),
            client=address_of(request),
        )
    )
    response = begin_session(request, word, "/")
    place = place_of(request)
    response.delete_cookie(
        _cookie(request), secure=place.secure, httponly=True, samesite="strict", path="/"
    )
    return response


def _provider(request: Request) -> ProviderSignIn:
    provider = provider_of(request)
    if provider is None:
        raise NotFound("no identity provider is configured here; expected a password: /sign-in")
    return provider


def _back(request: Request) -> str:
    """Returns where the provider sends the browser: to the name by which it reached this office."""
    host = request.headers["host"]  # one of ours: the guard has looked
    named = (one for one in place_of(request).origins if urlsplit(one).netloc == host)
    return f"{next(named)}{BACK}"


def _cookie(request: Request) -> str:
    return f"{place_of(request).cookie}-provider"

# SPDX-License-Identifier: Apache-2.0
"""Who is asking: the session's cookie turned into an actor, for pages and API alike.

Guarantees: an actor comes from the office's database, never from the request; a route that names
`CurrentActor` answers nobody who is not signed in.
"""

from typing import Annotated, Final, TypeAlias, cast

from fastapi import Depends, Request, Response
from starlette.responses import RedirectResponse

from consilium.adapters.identity.accounts import Accounts
from consilium.adapters.identity.provider_sign_in import ProviderSignIn
from consilium.adapters.office.office import Office
from consilium.errors import NotSignedIn
from consilium.governance.access import Actor
from consilium.web.security import Place

ANONYMOUS: Final = {"x-anonymous": True}  # marks a route that everybody may call


def office_of(request: Request) -> Office:
    """Returns the office that this application serves."""
    return cast("Office", request.app.state.office)


def accounts_of(request: Request) -> Accounts:
    """Returns who has an account here, and who is signed in."""
    return cast("Accounts", request.app.state.accounts)


def place_of(request: Request) -> Place:
    """Returns where this application is reached."""
    return cast("Place", request.app.state.place)


def provider_of(request: Request) -> ProviderSignIn | None:
    """Returns the way in by the hospital's identity provider, where one is configured."""
    return cast("ProviderSignIn | None", request.app.state.provider)


def maybe_actor(request: Request) -> Actor | None:
    """Returns who is asking, or None."""
    word = request.cookies.get(place_of(request).cookie)
    return None if word is None else accounts_of(request).actor(word)


def current_actor(request: Request) -> Actor:
    """Returns who is asking.

    Raises:
        NotSignedIn: Nobody that is known.
    """
    actor = maybe_actor(request)
    if actor is None:
        raise NotSignedIn("no session holds for this request; expected one: sign in")
    return actor


def address_of(request: Request) -> str:
    """Returns where the request comes from, for counting tries."""
    return request.client.host if request.client else ""


def keep_session(request: Request, response: Response, word: str) -> None:
    """Gives the browser the session's word, in a cookie that no script and no other site reads."""
    place = place_of(request)
    response.set_cookie(
        place.cookie, word, secure=place.secure, httponly=True, samesite="strict", path="/"
    )


def begin_session(request: Request, word: str, path: str) -> Response:
    """Returns the way to `path`, with the session's word for the browser."""
    response = RedirectResponse(path, 303)
    keep_session(request, response, word)
    return response


def drop_session(request: Request, response: Response) -> None:
    """Ends the session of this request, and takes the cookie back."""
    place = place_of(request)
    word = request.cookies.get(place.cookie)
    if word is not None:
        accounts_of(request).sign_out(word)
    response.delete_cookie(
        place.cookie, secure=place.secure, httponly=True, samesite="strict", path="/"
    )


CurrentActor: TypeAlias = Annotated[Actor, Depends(current_actor)]
TheOffice: TypeAlias = Annotated[Office, Depends(office_of)]
TheAccounts: TypeAlias = Annotated[Accounts, Depends(accounts_of)]

# SPDX-License-Identifier: Apache-2.0
"""Which machine is asking: a bearer token turned into an actor that is bound to one project.

Guarantees: a token is believed by a rule of this office alone; one of our own that was taken back
is refused at once; the actor carries no role, and its project is the token's.
"""

from typing import Annotated, TypeAlias, cast

import httpx
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from consilium.adapters.identity.machine_tokens import check_not_revoked
from consilium.adapters.identity.remote_tokens import ask_remote
from consilium.adapters.identity.settings import IdentitySettings
from consilium.adapters.identity.tokens import Claims, check_token, own_rule
from consilium.adapters.office.office import Office
from consilium.errors import AccessDenied, NotSignedIn
from consilium.governance.access import Actor, ActorKind
from consilium.web.access import office_of

_BEARER = HTTPBearer(
    scheme_name="machine", description="A token for one machine and one project.", auto_error=False
)


def current_machine(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
) -> Actor:
    """Returns the machine that is asking.

    Raises:
        NotSignedIn: There is no token, or no rule of this office believes it.
    """
    if bearer is None:
        raise NotSignedIn("the request has no token; expected Authorization: Bearer TOKEN")
    office = office_of(request)
    settings = cast("IdentitySettings", request.app.state.identity)
    try:
        claims = _believed(office, settings, bearer.credentials)
    except AccessDenied as refused:
        raise NotSignedIn(str(refused)) from None
    return Actor(
        id=claims.subject,
        name=claims.subject,
        office=office.desk.name,
        kind=ActorKind.SERVICE,
        project=claims.project,
    )


def _believed(office: Office, settings: IdentitySettings, token: str) -> Claims:
    desk = office.desk
    now = desk.clock()
    if settings.service is not None and token.count(".") != 2:
        with httpx.Client() as client:
            return ask_remote(token, settings.service, client, now=now)
    for rule in settings.rules:
        try:
            return check_token(token, rule, now=now)
        except AccessDenied:
            continue
    claims = check_token(token, own_rule(desk.key, desk.name), now=now)
    with desk.database.reading() as connection:
        check_not_revoked(connection, claims)
    return claims


CurrentMachine: TypeAlias = Annotated[Actor, Depends(current_machine)]

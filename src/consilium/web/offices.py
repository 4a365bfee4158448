# SPDX-License-Identifier: Apache-2.0
"""Which office is asking: a signed request turned into an actor, and the answer signed in turn.

Guarantees: the actor is an associated office, under the key that two people compared; a request
that was seen before is refused; the answer says which request it is the answer to.
"""

from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias, final

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from consilium.adapters.identity.signed_requests import (
    Request as Signed,
)
from consilium.adapters.identity.signed_requests import (
    Sender,
    check_request,
    sign_answer,
    spend_nonce,
)
from consilium.adapters.office.office import Office
from consilium.errors import AccessDenied, NotSignedIn
from consilium.governance.access import Actor
from consilium.web.access import office_of

SIGNATURE: Final = "Consilium-Signature"
Text = Annotated[str | None, Header(max_length=200)]


@final
@dataclass(frozen=True, slots=True)
class Caller:
    """An office that signed this request; not yet known to be associated."""

    office: Office
    sender: Sender

    def answer(self, body: BaseModel) -> Response:
        """Returns `body`, signed for this request."""
        data = body.model_dump_json().encode()
        signature = sign_answer(self.office.desk.key, self.sender.nonce, 200, data)
        return Response(data, media_type="application/json", headers={SIGNATURE: signature})


async def signed_caller(
    request: Request,
    consilium_identity: Text = None,
    consilium_time: Text = None,
    consilium_nonce: Text = None,
    consilium_signature: Text = None,
) -> Caller:
    """Returns who signed this request.

    Raises:
        NotSignedIn: Nobody did, or it was seen before.
    """
    headers = {
        "Consilium-Identity": consilium_identity,
        "Consilium-Time": consilium_time,
        "Consilium-Nonce": consilium_nonce,
        "Consilium-Signature": consilium_signature,
    }
    query = request.scope["query_string"].decode("latin-1")
    signed = Signed(
        method=request.method,
        host=request.headers.get("host", ""),
        path=request.url.path + (f"?{query}" if query else ""),
        body=await request.body(),
    )
    given = {name: value for name, value in headers.items() if value is not None}
    return await run_in_threadpool(_checked, office_of(request), signed, given)


def current_office(
    caller: Annotated[Caller, Depends(signed_caller)],
    consilium_office: Annotated[str, Header(max_length=200, description="Its name.")] = "",
) -> Actor:
    """Returns the associated office that signed this request.

    Raises:
        AccessDenied: It is not associated under this key.
    """
    return caller.office.associations.known(consilium_office, caller.sender.key)


def _checked(office: Office, signed: Signed, headers: dict[str, str]) -> Caller:
    now = office.desk.clock()
    try:
        sender = check_request(signed, headers, now=now)
        with office.desk.database.transaction() as connection:
            spend_nonce(connection, sender, now=now)
    except AccessDenied as refused:
        raise NotSignedIn(str(refused)) from None
    return Caller(office, sender)


SignedCaller: TypeAlias = Annotated[Caller, Depends(signed_caller)]
CurrentOffice: TypeAlias = Annotated[Actor, Depends(current_office)]

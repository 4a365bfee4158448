# SPDX-License-Identifier: Apache-2.0
"""What is around our bytes on the way: topics, and the answer or refusal of a site."""

from typing import Final, final

import msgspec

from consilium.errors import NotJoined, RemoteProtocolError

ENROL: Final = "consilium.enrol"
JOIN: Final = "consilium.join"
MESSAGE: Final = "consilium.message"
PROGRESS: Final = "consilium.progress"
BODY: Final = "consilium"  # the one key of ours in NVFlare's request and reply


@final
class Reply(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A site's answers, or why it refuses; a process without a session says that it is new."""

    answers: tuple[bytes, ...] = ()
    refusal: str | None = None
    new: bool = False


def seal(reply: Reply) -> bytes:
    """Returns `reply` as bytes."""
    return msgspec.msgpack.encode(reply)


def unseal(site: str, data: object) -> list[bytes]:
    """Returns the answers in `data`, as it came from `site`.

    Raises:
        NotJoined: The site's process is new.
        RemoteProtocolError: The site refused, or it is no reply.
    """
    if not isinstance(data, bytes):
        raise RemoteProtocolError(f"site {site} sent no bytes; expected a reply")
    try:
        reply = msgspec.msgpack.decode(data, type=Reply)
    except msgspec.MsgspecError:
        raise RemoteProtocolError(f"site {site} sent a reply that cannot be read") from None
    if reply.new:
        raise NotJoined(f"site {site} is a new process")
    if reply.refusal is not None:
        raise RemoteProtocolError(f"site {site} refuses: {reply.refusal}")
    return list(reply.answers)

# SPDX-License-Identifier: Apache-2.0
"""Every error that consilium raises on purpose.

    ConsiliumError
    ├── ProtocolError          a message that the protocol does not allow; no state changed
    │   ├── OutOfTurn          this event means nothing in this state
    │   │   └── NotJoined      this process has no session; the one that had it has ended
    │   ├── LocalProtocolError   our own side was asked for what the protocol forbids
    │   ├── RemoteProtocolError  a peer sent it; `sender` names the peer
    │   └── RoundAborted       a round cannot complete; `blamed` names whose messages were bad
    ├── PrivacyError           what was asked would void a stated guarantee
    │   ├── BudgetExceeded     the charge does not fit what is left
    │   └── UnsupportedEvent   the accountant has no theorem for this event
    ├── AccessDenied           what a refused caller sees
    │   ├── NotSignedIn        nobody knows who the caller is
    │   └── TooManyTries       it was tried too often; `seconds` says how long to wait
    ├── Conflict               it is not as the caller last saw it; nothing changed
    │   └── Stale              the caller named a version that is no longer the newest
    ├── DataError              data that cannot be used as they are
    │   ├── NotFound           there is no such thing here
    │   └── TooLarge           more than is read at once
    └── ConfigError            a project file or an option that cannot be used as it is

Programming mistakes stay `ValueError` and `TypeError`. A message says what was found, what
was expected and what to do; it never holds a patient's name, a pixel, a key or a share.
"""


class ConsiliumError(Exception):
    """Root of the tree. A caller who catches it catches every deliberate refusal."""


# -- Protocols ------------------------------------------------------------------------


class ProtocolError(ConsiliumError):
    """A message that the protocol does not allow. The state did not change."""


class OutOfTurn(ProtocolError):
    """This event means nothing in this state."""


class NotJoined(OutOfTurn):
    """This process of a site knows no session: it is new, and must be told the roll again."""


class LocalProtocolError(ProtocolError):
    """Our own side was asked for something that the protocol forbids."""


class RemoteProtocolError(ProtocolError):
    """A peer sent something that the protocol forbids."""

    def __init__(self, message: str, sender: int | None = None) -> None:
        super().__init__(message)
        self.sender = sender


class RoundAborted(ProtocolError):
    """A round cannot complete and nothing was opened; the next round is a new sample."""

    def __init__(self, message: str, blamed: tuple[int, ...] = ()) -> None:
        super().__init__(f"{message} (blamed: {list(blamed)})" if blamed else message)
        self.blamed = blamed


# -- Privacy --------------------------------------------------------------------------


class PrivacyError(ConsiliumError):
    """What was asked would void a stated guarantee."""


class BudgetExceeded(PrivacyError):
    """The charge does not fit what is left of the budget."""


class UnsupportedEvent(PrivacyError):
    """The accountant has no theorem that prices this event."""


# -- Access, data, settings -----------------------------------------------------------


class AccessDenied(ConsiliumError):
    """The caller may not do this; the message gives the reason and nothing else."""


class NotSignedIn(AccessDenied):
    """Nobody knows who the caller is."""


class TooManyTries(AccessDenied):
    """It was tried too often."""

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


class Conflict(ConsiliumError):
    """It is not as the caller last saw it, or not in a state that allows this; nothing changed."""


class Stale(Conflict):
    """The caller named a version that is no longer the newest."""


class DataError(ConsiliumError):
    """Data that cannot be used as they are."""


class NotFound(DataError):
    """There is no such thing here, or none that this caller may know of."""


class TooLarge(DataError):
    """More than is read at once."""


class ConfigError(ConsiliumError):
    """A project file or an option that cannot be used as it is."""

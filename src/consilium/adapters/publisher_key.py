# SPDX-License-Identifier: Apache-2.0
"""The key by which somebody signs what they make of models: one file, mode 0600.

Guarantees: 32 bytes of the operating system, written whole, never printed; a file that others can
read is refused. An office signs with its own key (`adapters.office`); this is for whoever exports
or publishes on their own machine.
"""

import os
from pathlib import Path
from typing import Annotated, Final

import msgspec

from consilium.adapters.randomness import Source, operating_system
from consilium.adapters.whole_files import write_secret_once
from consilium.errors import DataError
from consilium.governance.model_permits import Signer

NAMELESS: Final = "a person without an office"
_NAME: Final = "publisher.json"


class _Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    key: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


def default_publisher_file() -> Path:
    """Returns $XDG_CONFIG_HOME/consilium/publisher.json, or the same under ~/.config."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    folder = Path(base) if Path(base).is_absolute() else Path.home() / ".config"
    return folder / "consilium" / _NAME


def signer_of(
    path: Path | None = None, *, name: str = NAMELESS, source: Source = operating_system
) -> Signer:
    """Returns who signs; the key is made on the first call.

    Args:
        path: The key's file; None: the account's own.
        name: For people, where the key is made now.
        source: Of randomness.

    Raises:
        DataError: The file is readable by others, or holds no key.
        OSError: It cannot be written.
    """
    file = path or default_publisher_file()
    if not file.exists():
        write_secret_once(file, msgspec.json.encode(_Kept(name=name, key=source().hex())))
    if file.stat().st_mode & 0o077:
        raise DataError(
            f"{file.name} is open to others; expected mode 600: chmod 600, or make a new one: "
            "others may have signed with it"
        )
    try:
        kept = msgspec.json.decode(file.read_bytes(), type=_Kept)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise DataError(
            f"{file.name} holds no key; expected what `consilium model key` wrote: restore its copy"
        ) from None
    return Signer(kept.name, bytes.fromhex(kept.key))

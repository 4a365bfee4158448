# SPDX-License-Identifier: Apache-2.0
"""The secret of a site that makes its pseudonyms: one file, outside every dataset.

Guarantees: 32 bytes of the operating system, written whole, readable by its owner alone; one that
others can read is refused, and so is one that lies where datasets are. Who loses it cannot import
again under the same pseudonyms; who leaks it makes identifiers guessable.
"""

import os
from pathlib import Path
from typing import Final

from consilium.adapters.randomness import Source, operating_system
from consilium.adapters.whole_files import write_secret_once
from consilium.data.deidentification import KEY_BYTES, Pseudonymiser
from consilium.errors import DataError

_NAME: Final = "pseudonym.key"


def default_key_file() -> Path:
    """Returns $XDG_CONFIG_HOME/consilium/pseudonym.key, or the same under ~/.config."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    folder = Path(base) if Path(base).is_absolute() else Path.home() / ".config"
    return folder / "consilium" / _NAME


def pseudonymiser_of(
    path: Path, *, outside: Path, source: Source = operating_system
) -> Pseudonymiser:
    """Returns what makes this site's pseudonyms; its secret is made on the first call.

    Args:
        path: The secret's file.
        outside: The dataset, in which the secret must not lie.
        source: Of randomness.

    Raises:
        DataError: The file is inside the dataset, readable by others, or not a secret.
        OSError: It cannot be written.
    """
    if path.resolve().is_relative_to(outside.resolve()):
        raise DataError(
            f"found the secret {path.name} inside the dataset; expected it outside, because who "
            "has both can test guesses of identifiers; choose another --key"
        )
    if not path.exists():
        write_secret_once(path, source())
    mode, key = path.stat().st_mode & 0o077, path.read_bytes()
    if mode or len(key) != KEY_BYTES:
        raise DataError(
            f"{path.name} has mode {path.stat().st_mode & 0o777:o} and {len(key)} bytes; expected "
            f"600 and {KEY_BYTES}: chmod 600, or restore its copy"
        )
    return Pseudonymiser(key)

# SPDX-License-Identifier: Apache-2.0
"""A disk that is full or broken, in words: the edge where the operating system's errors end."""

from collections.abc import Iterator
from contextlib import contextmanager

from consilium.errors import DataError


@contextmanager
def disk_in_words() -> Iterator[None]:
    """Turns what the operating system says of a file into a refusal.

    Raises:
        DataError: A file could not be written or read; what was finished before is whole.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DataError(
            f"a file could not be written or read ({reason}); expected a disk with room that "
            "this process may use: mend that, then resume"
        ) from error

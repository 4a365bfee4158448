# SPDX-License-Identifier: Apache-2.0
"""Random words that stand for a right, and what a database keeps of them: a digest, never the word.

Guarantees: whoever reads the database cannot use what it finds there. A word is 256 random bits,
so its plain SHA-256 with a domain tag is as hard to turn round as to guess.
"""

import base64
from collections.abc import Callable
from typing import Final, TypeAlias

from consilium.wire import digest

Randomness: TypeAlias = Callable[[int], bytes]
LENGTH: Final = 43  # characters of 32 bytes in base64url without padding


def new_word(randomness: Randomness) -> str:
    """Returns a word of 256 random bits, in letters that a link may hold."""
    return base64.urlsafe_b64encode(randomness(32)).rstrip(b"=").decode("ascii")


def word_digest(use: str, word: str) -> bytes:
    """Returns the 32 bytes that a table keeps of `word`; another `use` has another digest."""
    return digest("identity/word", use, word.encode("utf-8", "surrogatepass"))

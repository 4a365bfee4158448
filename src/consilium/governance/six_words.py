# SPDX-License-Identifier: Apache-2.0
"""Six words for a digest or a key, to be compared by telephone.

A word is a proquint: five letters, consonant and vowel in turn, for 16 bits. Guarantees: the
words of two digests agree by chance once in 2**96; who wants to make a second digest with given
words tries that often, and who may choose both digests 2**48 times: compare the words of what
you hold, never of what another says they hold.
Source: Wilkerson, A Proposal for Proquints (arXiv:0901.4016).
"""

from typing import Final

from consilium.wire import digest

WORDS: Final = 6
_CONSONANTS: Final = "bdfghjklmnprstvz"
_VOWELS: Final = "aiou"


def six_words(of: bytes) -> str:
    """Returns the first 12 bytes of a digest as six words.

    >>> six_words(bytes.fromhex("7f000001" + "0" * 16))
    'lusab babad babab babab babab babab'

    Raises:
        ValueError: The digest is shorter.
    """
    if len(of) < 2 * WORDS:
        raise ValueError(f"{len(of)=}; expected at least {2 * WORDS}")
    return " ".join(_word(int.from_bytes(of[2 * k : 2 * k + 2], "big")) for k in range(WORDS))


def key_words(name: str, key: bytes) -> str:
    """Returns six words for somebody's public key under their name."""
    return six_words(digest("office key", name, key))


def _word(value: int) -> str:
    # 16 bits, from the top: consonant (4), vowel (2), consonant, vowel, consonant.
    places = ((12, _CONSONANTS), (10, _VOWELS), (6, _CONSONANTS), (4, _VOWELS), (0, _CONSONANTS))
    return "".join(letters[value >> shift & len(letters) - 1] for shift, letters in places)

# SPDX-License-Identifier: Apache-2.0
"""A key expanded into uniform bytes: AES-256 of a counter, on OpenSSL's fastest path.

Block k of the stream is the AES-256-GCM encryption of zeros under nonce k, without the tag:
AES in counter mode on the vectorised code path, which also releases the interpreter lock.
A key is for one stream; whoever holds it holds the stream. Where keys come from (the
operating system, a key agreement) is the caller's business.
"""

from typing import Final, TypeVar, final

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

BLOCK: Final = 1 << 18  # bytes a call; source, scratch and target stay in the L2 cache
KEY_BYTES: Final = 32
TAG_BYTES: Final = 16  # scrap that AES-GCM leaves behind each block
_ZEROS: Final = memoryview(bytes(BLOCK))

Word = TypeVar("Word", np.uint16, np.uint32, np.uint64)


@final
class Keystream:
    """The stream of one key, read block by block, in any order or from its start.

    Raises:
        ValueError: The key is not 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"key of {len(key)} bytes; expected {KEY_BYTES}")
        self._cipher = AESGCM(key)
        self._next = 0

    def block_into(self, index: int, out: NDArray[np.uint8]) -> None:
        """Writes the start of block `index` into `out`; its last TAG_BYTES bytes are scrap.

        Args:
            index: Of the block.
            out: Shape (length + TAG_BYTES,), length at most BLOCK; no more is computed than that.
        """
        zeros = _ZEROS[: out.size - TAG_BYTES]
        self._cipher.encrypt_into(index.to_bytes(12, "big"), zeros, None, out.data)

    def words(self, count: int, kind: type[Word]) -> NDArray[Word]:
        """Returns the next `count` words, shape (count,); each call starts at a fresh block."""
        size = count * np.dtype(kind).itemsize
        blocks = max(1, -(-size // BLOCK))
        buffer = np.empty(size + TAG_BYTES, np.uint8)
        for k in range(blocks):
            start = k * BLOCK
            self.block_into(self._next + k, buffer[start : min(start + BLOCK, size) + TAG_BYTES])
        self._next += blocks
        return buffer[:size].view(kind)

    def __repr__(self) -> str:
        """Never shows the key."""
        return f"Keystream(at block {self._next})"

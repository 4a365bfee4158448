# SPDX-License-Identifier: Apache-2.0
"""Python reads this before anything else in the site processes of a test, and only there.

It puts recorded randomness in the place of the operating system's, so that a run between
processes can be compared with one in memory. Nothing in the package knows of it.
"""

import os

from consilium.adapters import randomness

SEED = "CONSILIUM_TEST_RECORDED"


def record(seed: bytes) -> None:
    """Replaces the randomness of this process by that of `seed`."""
    counter = iter(range(2**63))

    def recorded() -> bytes:
        from consilium.wire import derive  # noqa: PLC0415

        return derive(seed, "recorded randomness", next(counter))[:32]

    randomness.operating_system = recorded


if SEED in os.environ:
    record(bytes.fromhex(os.environ[SEED]))

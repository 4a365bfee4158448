# SPDX-License-Identifier: Apache-2.0
"""The operating system's randomness: enough of it, and never twice the same."""

from consilium.adapters.randomness import SECRET_BYTES, operating_system


def test_every_secret_is_fresh() -> None:
    secrets = {operating_system() for _ in range(100)}

    assert len(secrets) == 100
    assert {len(secret) for secret in secrets} == {SECRET_BYTES}

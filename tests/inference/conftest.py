# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("compiling", deadline=None)


@pytest.fixture(autouse=True)
def _no_deadline() -> Iterator[None]:
    """The first call of a kernel compiles it."""
    settings.load_profile("compiling")
    yield
    settings.load_profile("default")

# SPDX-License-Identifier: Apache-2.0
"""One thread for all tests of learning: faster for networks this small."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)

# SPDX-License-Identifier: Apache-2.0
"""Tests of a disk that is full: parties say so, nothing leaves, and the run goes on later."""

import errno
import os
from pathlib import Path

import pytest
from tests.adapters.conftest import Full
from tests.adapters.test_federated import NAMES, World

from consilium.adapters.disks import disk_in_words
from consilium.errors import DataError, RoundAborted


def test_what_the_system_says_becomes_a_refusal_that_says_what_to_do() -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "secret/path")

    with pytest.raises(DataError, match=r"left on device.*then resume") as told, disk_in_words():
        raise full

    assert "secret/path" not in str(told.value)


def test_other_errors_pass() -> None:
    with pytest.raises(RoundAborted, match="as it was"), disk_in_words():
        raise RoundAborted("as it was")


def test_a_coordinator_whose_disk_is_full_refuses_and_goes_on_later(
    tmp_path: Path, full_after: Full
) -> None:
    world = World(tmp_path)
    sites = world.sites()

    with full_after(0), pytest.raises(DataError, match="No space left on device"):
        world.conduct(sites)

    assert world.conduct(world.sites()).rounds == 3


def test_a_site_whose_disk_is_full_refuses_to_join_in_words(
    tmp_path: Path, full_after: Full
) -> None:
    world = World(tmp_path)
    world.conduct(world.sites())
    roll = (tmp_path / "run-1" / "roll.bin").read_bytes()
    site = world.site("a")

    with full_after(0), pytest.raises(DataError, match="No space left on device"):
        site.join(roll)

    assert [world.rounds(name) for name in NAMES] == [[1, 2, 3]] * 3

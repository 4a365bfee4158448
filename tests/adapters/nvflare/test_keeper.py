# SPDX-License-Identifier: Apache-2.0
"""A site's clock beside the coordinator's, over a cell that answers at once, late, or not."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("nvflare")

from nvflare.fuel.f3.message import Message

from consilium.adapters.nvflare import keeper


@dataclass
class Cell:
    """A way to a coordinator whose clock is `ahead` seconds ahead of this one."""

    ahead: float = 0.0
    answers: bool = True
    body: object = None

    def send_request(self, **_words: object) -> Message | None:
        if not self.answers:
            return None
        return Message({}, time.time() + self.ahead if self.body is None else self.body)


def test_clocks_that_agree_are_found_to(caplog: pytest.LogCaptureFixture) -> None:
    skew = keeper.measure_skew(Cell())

    assert skew is not None
    assert abs(skew) < 1
    assert caplog.records == []


@pytest.mark.parametrize("ahead", [600.0, -600.0])
def test_a_clock_ten_minutes_off_is_logged_with_what_to_do(
    ahead: float, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        skew = keeper.measure_skew(Cell(ahead=ahead))

    assert skew is not None
    assert abs(skew + ahead) < 1
    assert "timedatectl set-ntp true, here or there" in caplog.text


@pytest.mark.parametrize("cell", [Cell(answers=False), Cell(body="soon"), Cell(body=b"")])
def test_a_coordinator_that_does_not_say_leaves_it_unknown(cell: Cell) -> None:
    assert keeper.measure_skew(cell) is None


def test_what_was_measured_is_kept_and_forgotten(tmp_path: Path) -> None:
    (tmp_path / "consilium").mkdir()

    keeper.note_skew(tmp_path, 12.5)
    kept = keeper.last_skew(tmp_path)
    keeper.note_skew(tmp_path, None)

    assert (kept, keeper.last_skew(tmp_path)) == (12.5, None)

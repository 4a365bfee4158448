# SPDX-License-Identifier: Apache-2.0
"""Tests of the figure of a search."""

from consilium.web.importance import draw_importances

SHARES = {"learning_rate.initial": 0.9, "training.views": 0.1}


def test_every_setting_and_share_is_written() -> None:
    drawn = draw_importances(SHARES, arm="federated-dp").decode()

    assert all(f">{name}<" in drawn for name in SHARES)
    assert ">0.90<" in drawn


def test_the_same_search_gives_the_same_bytes() -> None:
    assert draw_importances(SHARES, arm="central") == draw_importances(SHARES, arm="central")

# SPDX-License-Identifier: Apache-2.0
"""What is said beforehand is what is sent."""

import os

from tests.inference.programs import every_step, some_images, some_weights

from consilium.inference.cost import LAN, WAN, cost_of
from consilium.inference.messages import Exchange
from consilium.inference.protocol import Heard, Randomness, run_inference


def test_rounds_and_bytes_are_those_of_a_run() -> None:
    program = every_step()
    heard: Heard = []
    run_inference(
        program, some_weights(program), some_images(program, 1), Randomness(os.urandom(32)), heard
    )
    spoken = [said for who, said in heard if who == 0 and isinstance(said, Exchange)]

    cost = cost_of(program)

    assert cost.rounds == len(spoken)
    assert cost.online_bytes == sum(len(said.words) for said in spoken)


def test_a_slower_network_costs_more() -> None:
    cost = cost_of(every_step())

    assert cost.online_seconds(WAN) > cost.online_seconds(LAN) > 0
    assert cost.offline_seconds(WAN) > cost.offline_seconds(LAN) > 0

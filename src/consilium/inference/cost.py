# SPDX-License-Identifier: Apache-2.0
"""What a program costs before anybody runs it: comparisons, bytes and rounds, which are exact, and
seconds, which are estimates from figures measured on one machine."""

from dataclasses import dataclass
from math import prod
from typing import Final, final

from consilium.inference.material import COVER_BITS, corrections_size
from consilium.inference.program import (
    Convolve,
    Larger,
    Open,
    Positive,
    Program,
    check_program,
)
from consilium.inference.ring import NARROW_BITS, packed_size
from consilium.inference.weights import weights_size

# Of one core, ring of 40 bits: `benchmarks/inference.py --kernels`, packing of messages included.
# Nothing hangs on them but the seconds that people are shown. Bytes and rounds are exact.
PRODUCTS_A_SECOND: Final = 8.5e9
COMPARISONS_A_SECOND: Final = 36e6


@final
@dataclass(frozen=True, slots=True)
class Network:
    """A connection: bits a second, and seconds one way."""

    name: str
    rate: float
    latency: float


LAN: Final = Network("LAN, 1 Gbit/s, 0.2 ms", 1e9, 0.0002)
WAN: Final = Network("WAN, 100 Mbit/s, 40 ms", 1e8, 0.040)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one image.

    Attributes:
        comparisons: Of ReLUs and maxima.
        products: Of the convolutions, each way they are computed once.
        rounds: Openings one after the other.
        online_bytes: That each computing operator sends the other.
        offline_bytes: That the dealer sends operator 1.
        upload_bytes: That the patient sends each operator.
        weight_bytes: That the owner sends each operator, once.
        operator_seconds: Of one core of one operator, online.
    """

    comparisons: int
    products: int
    rounds: int
    online_bytes: int
    offline_bytes: int
    upload_bytes: int
    weight_bytes: int
    operator_seconds: float

    def online_seconds(self, network: Network, images: int = 1) -> float:
        """Returns seconds from the shares to the answer, material being there."""
        sent = images * self.online_bytes * 8 / network.rate
        return self.rounds * network.latency + sent + images * self.operator_seconds

    def offline_seconds(self, network: Network) -> float:
        """Returns seconds that the material of one image is under way."""
        return network.latency + self.offline_bytes * 8 / network.rate


def cost_of(program: Program) -> Cost:
    """Returns what one image costs."""
    values, bits = check_program(program), program.ring_bits
    comparisons = products = rounds = sent = 0
    for number, step in enumerate(program.steps):
        made = values[number + 1]
        match step:
            case Open():
                rounds += 1
                sent += packed_size(made.size, bits)
            case Convolve():
                products += made.size * program.weights[step.weight].rows
            case Larger() | Positive():
                rounds += 3
                comparisons += made.size
                sent += packed_size(made.size, NARROW_BITS) + packed_size(made.size, COVER_BITS)
                sent += -(-made.size // 8)
            case _:
                pass
    return Cost(
        comparisons=comparisons,
        products=products,
        rounds=rounds,
        online_bytes=sent,
        offline_bytes=corrections_size(program),
        upload_bytes=packed_size(prod(program.image), bits),
        weight_bytes=weights_size(program),
        operator_seconds=products / PRODUCTS_A_SECOND + comparisons / COMPARISONS_A_SECOND,
    )

# SPDX-License-Identifier: Apache-2.0
"""Writes tests/vectors/inference_shares.json: `python -m tests.phone.write_vectors`.

For whoever writes a patient's end in another language (docs/inference.md, "The format of
shares"). Of each ring: grey levels by channel, row and column; the words that they become, by
row, column and channel; operator 0's share, which is the drawn randomness; operator 1's share;
both shares of an answer, and its logits. `refused` holds what must be refused. Everything is made
up; randomness is SHAKE-256 of the vector's name, so that the file can be made again.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from consilium.inference.ring import Words, pack, packed_size, ring, signed, unpack, word
from consilium.inference.sharing import share, to_reals, to_ring
from consilium.learning.preprocessing import Preprocessing

PATH: Final = Path(__file__).parents[1] / "vectors" / "inference_shares.json"
_RINGS: Final = ((32, 8, 2.0**-18), (40, 12, 3.0517578125e-05), (64, 26, 7.1e-15))
_SHAPES: Final = {"constants": (4, 4, 1), "own moments": (3, 3, 3)}


def drawn(name: str, count: int, bits: int) -> Words:
    """Returns words that only this file uses."""
    raw = hashlib.shake_256(name.encode()).digest(packed_size(count, bits))
    return unpack(raw, bits, (count,))


def shares_of(secret: Words, first: Words, bits: int) -> tuple[str, str]:
    """Returns both shares as they travel."""
    parts = share(secret.reshape(-1), first.astype(word(bits)).tobytes(), bits)
    return pack(parts[0], bits).hex(), pack(parts[1], bits).hex()


def vector(kind: str, bits: int, fraction: int, unit: float) -> dict[str, Any]:
    """Returns one of them."""
    name = f"{kind}, ring of {bits} bits"
    height, width, channels = _SHAPES[kind]
    rule = Preprocessing(mean=0.485, std=0.229, standardise_each_image=kind == "own moments")
    levels = drawn(f"{name}: levels", height * width * channels, 8).astype(np.uint8)
    levels[:2] = 0, 255
    image = rule.inputs(levels.reshape(1, channels, height, width)).numpy()
    secret = to_ring(image.transpose(0, 2, 3, 1), fraction, bits)
    ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, -1, 0, 12345], np.int64)
    answer = ring(ends, bits)
    first, second = shares_of(secret, drawn(f"{name}: image", secret.size, bits), bits)
    back = shares_of(answer, drawn(f"{name}: answer", answer.size, bits), bits)
    return {
        "name": name,
        "ring_bits": bits,
        "image_fraction": fraction,
        "unit": unit,
        "image": [height, width, channels],
        "mean": rule.mean,
        "std": rule.std,
        "standardise_each_image": rule.standardise_each_image,
        "levels": levels.tolist(),
        "words": signed(secret, bits).reshape(-1).tolist(),
        "shares": [first, second],
        "answer_shares": list(back),
        "logits": to_reals(answer, unit, bits).tolist(),
    }


def refused(valid: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns what differs from `valid` and must be refused."""
    first, second = valid["answer_shares"]
    return [
        {"name": "a pixel beyond the ring", "image_fraction": valid["ring_bits"] - 1},
        {"name": "an answer that is a byte short", "answer_shares": [first, second[:-2]]},
        {"name": "an answer that is a byte long", "answer_shares": [f"{first}00", second]},
    ]


def make() -> dict[str, Any]:
    """Returns the whole file."""
    vectors = [vector(kind, *one) for one in _RINGS for kind in _SHAPES]
    return {
        "format": "consilium inference shares, 1",
        "vectors": vectors,
        "refused": refused(vectors[0]),
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(make(), indent=1) + "\n")

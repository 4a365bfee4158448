# SPDX-License-Identifier: Apache-2.0
"""One small network at every runtime that can be asked here."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.adapters.inference.parties import owned, publish_small, some_images, three_operators

from consilium.adapters.inference.publishing import compile_owned
from consilium.adapters.inference.runtimes import AskedOperators, InProcess, InTheClear
from consilium.adapters.inference.spu import SpuProtocol, SpuRuntime
from consilium.inference.compiler import Compiled
from consilium.inference.network import Network, read_network
from consilium.inference.runtime import Runtime

TOLERANCE: Final = 1e-3  # of a logit


@cache
def compiled() -> Compiled:
    return compile_owned(owned(), None)


def network() -> Network:
    model = owned()
    return read_network(model.model, model.shape)


def images(count: int) -> NDArray[np.float32]:
    pictures: NDArray[np.float32] = some_images(count).numpy()
    return pictures


def plain_logits(count: int) -> NDArray[np.float64]:
    with torch.no_grad():
        logits: NDArray[np.float64] = owned().model(some_images(count)).double().numpy()
    return logits


def spu_python() -> Path:
    """The interpreter with spu; tests that need it skip without."""
    found = os.environ.get("CONSILIUM_SPU_PYTHON", "")
    if not found:
        pytest.skip("CONSILIUM_SPU_PYTHON is not set to an interpreter with spu")
    return Path(found)


@contextmanager
def asked_operators(folder: Path) -> Iterator[Runtime]:
    with three_operators(folder, stock=8) as parties:
        publish_small(parties, stock=8)
        (offered,) = parties.patient.models()
        yield AskedOperators(parties.patient, offered)


@contextmanager
def started(name: str, folder: Path) -> Iterator[Runtime]:
    """The runtime of that name, until the end of the block."""
    protocols: dict[str, SpuProtocol] = {"spu-aby3": "ABY3", "spu-cheetah": "CHEETAH"}
    if name in protocols:
        with SpuRuntime(spu_python(), network(), protocols[name]) as runtime:
            yield runtime
    elif name == "operators":
        with asked_operators(folder) as runtime:
            yield runtime
    else:
        yield InProcess(compiled()) if name == "in-process" else InTheClear(compiled())

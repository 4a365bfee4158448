# SPDX-License-Identifier: Apache-2.0
"""SPU's processes: what they are told, and what happens when one is away."""

import multiprocessing
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from tests.adapters.inference.runtimes import images, network, spu_python

from consilium.adapters.inference import spu, spu_process
from consilium.adapters.inference.spu import SpuRuntime, describe
from consilium.errors import ConfigError, RoundAborted
from consilium.inference.network import Linear

NETWORK = network()

# -- Without spu ------------------------------------------------------------------------


def pretender(folder: Path, does: str) -> Path:
    """An interpreter that claims to have spu and then does something else."""
    made = folder / "python"
    made.write_text(f'#!/bin/sh\n[ "$2" = -c ] && exit 0\n{does}\n')
    made.chmod(0o700)
    return made


def test_an_interpreter_without_spu_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot import spu; expected an interpreter with spu"):
        SpuRuntime(Path(sys.executable), NETWORK)


def test_what_is_no_interpreter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not run"):
        SpuRuntime(tmp_path / "python", NETWORK)


def test_a_process_that_ends_is_named_with_its_last_words(tmp_path: Path) -> None:
    python = pretender(tmp_path, "echo no room >&2; exit 3")

    with pytest.raises(RoundAborted, match=r"SPU: \w+.* stopped \(no room\); nothing was opened"):
        SpuRuntime(python, NETWORK)


def test_silence_ends_by_itself_and_ends_the_processes(tmp_path: Path) -> None:
    python = pretender(tmp_path, f"echo $$ >> {tmp_path}/started; exec sleep 60")

    with pytest.raises(RoundAborted, match="SPU: owner gave no answer in 1 s"):
        SpuRuntime(python, NETWORK, patience=1.0)

    started = (tmp_path / "started").read_text().split()
    assert started
    assert not any(Path(f"/proc/{one}").exists() for one in started)


def test_every_layer_and_weight_is_described() -> None:
    layers, weights = describe(NETWORK)

    linear = [one for one in layers if one["kind"] == "linear"]
    assert len(layers) == len(NETWORK.layers)
    assert [one["weight"] for one in linear] == [2 * k for k in range(len(linear))]
    assert len(weights) == 2 * sum(isinstance(one, Linear) for one in NETWORK.layers)
    assert {one["kind"] for one in layers} <= spu_process._LAYERS.keys()


def test_messages_arrive_as_they_were_said() -> None:
    ours, theirs = multiprocessing.Pipe()
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((1, 1), np.float32)]
    shapes, parts = spu_process.pack_arrays(arrays)

    spu_process.say(ours, {"shapes": shapes}, parts)
    heard = spu_process.hear(theirs)

    found = spu_process.unpack_arrays(heard.head["shapes"], heard.parts)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, found, strict=True))


def test_the_bytes_of_the_last_run_are_read_from_the_log() -> None:
    log = "x total send bytes 12, recv bytes 9\ny total send bytes 345, recv bytes 6\n"

    assert spu_process.sent_bytes(log) == 345
    assert spu_process.sent_bytes("nothing") is None


# -- With spu ---------------------------------------------------------------------------


@pytest.fixture
def runtime() -> Iterator[SpuRuntime]:
    with SpuRuntime(spu_python(), NETWORK, patience=60.0) as made:
        yield made


@pytest.mark.spu
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["node 1", "patient"])
def test_who_is_killed_while_nodes_compute_ends_the_run(runtime: SpuRuntime, name: str) -> None:
    parties = {one.name: one.process for one in runtime._parties}
    os.kill(parties["node 1"].pid, signal.SIGSTOP)  # so that the others wait for it
    threading.Timer(2.0, parties[name].kill).start()
    start = time.monotonic()

    with pytest.raises(RoundAborted, match=f"SPU: {name} stopped"):
        runtime.infer(images(1))

    assert time.monotonic() - start < 30
    assert all(one.poll() is not None for one in parties.values())
    with pytest.raises(RoundAborted, match="processes have ended"):
        runtime.infer(images(1))


@pytest.mark.spu
@pytest.mark.timeout(300)
def test_a_node_speaks_to_nobody_without_a_certificate(runtime: SpuRuntime) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    with pytest.raises(OSError, match=r"(?i)certificate.required|reset|EOF|broken"):
        _greet(context, runtime.addresses[0])

    kit = Path(runtime._folder.name) / "kits" / "operator-1"
    context.load_cert_chain(kit / "certificate.pem", kit / "key.pem")
    assert _greet(context, runtime.addresses[0]) == b"HTTP"


@pytest.mark.spu
@pytest.mark.timeout(300)
def test_a_nodes_shares_are_its_own_and_look_random(
    runtime: SpuRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[list[bytes]] = []
    real = spu_process.say

    def overheard(link: Connection, head: Mapping[str, object], parts: Iterable[bytes]) -> None:
        listed = list(parts)
        if link in [node.link for node in runtime._nodes]:
            told.append(listed[2:])  # behind the program and what SPU says about the share
        real(link, head, listed)

    monkeypatch.setattr(spu, "say", overheard)

    for _ in range(2):
        runtime.infer(images(1))

    joined = [b"".join(parts) for parts in told]
    assert len(set(joined)) == 6
    for share in joined:
        assert _chi_square(share) < 400  # 255 degrees of freedom


def _greet(context: ssl.SSLContext, address: str) -> bytes:
    """Returns the first bytes that a node says to one who asks for a page."""
    host, port = address.split(":")
    plain = socket.create_connection((host, int(port)), timeout=10)
    with context.wrap_socket(plain) as made:
        made.sendall(b"GET /health HTTP/1.1\r\nHost: node\r\n\r\n")
        return made.recv(4)


def _chi_square(data: bytes) -> float:
    counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
    expected = len(data) / 256
    return float(((counts - expected) ** 2 / expected).sum())

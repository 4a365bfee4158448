# SPDX-License-Identifier: Apache-2.0
"""A picture asked encrypted from the phone page: three operators as processes on this machine.

SqueezeNet 1.1 at 224 px in colour, weights of the registry, ranges calibrated on made-up pictures.
Prints milliseconds to share a picture in the browser (fixed point, drawing, the second share), and
seconds from the first byte sent to the opened answer, as the page's worker sees them; medians.

    python benchmarks/phone_encrypted.py --repeats 5     # needs `make phone` and /usr/bin/chromium
"""

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from playwright.sync_api import Page, sync_playwright
from tests.adapters.inference.parties import card_of, free_port
from tests.phone.made import encoded
from tests.phone.test_share_vectors import LOAD, SCRIPT

from consilium.adapters.inference.asking import Offered, Patient
from consilium.adapters.inference.kit import Address, Operators, make_kits, read_operators
from consilium.adapters.inference.publishing import Owned, compile_owned, publish
from consilium.errors import ConsiliumError
from consilium.learning.models.registry import build
from consilium.learning.preprocessing import Preprocessing
from consilium.web.phone.encrypted_site import make_encrypted_site
from consilium.web.phone.serving import make_server

T = TypeVar("T")
SHAPE = (3, 224, 224)
PYTHON = [sys.executable, "-c", "from consilium.cli.app import main; main()"]
SHARING = """
async ([rule, repeats]) => {
    const { fixedPoint, secondShare, shareSize } = window.shares;
    const levels = new Uint8Array(3 * 224 * 224);
    for (let i = 0; i < levels.length; i++) levels[i] = (i * 37) % 256;
    const times = [];
    for (let k = 0; k < repeats; k++) {
        const begun = performance.now();
        const words = fixedPoint(levels, [224, 224, 3], rule, rule);
        const first = new Uint8Array(shareSize(words.length, rule.ring_bits));
        for (let at = 0; at < first.length; at += 65536)
            crypto.getRandomValues(first.subarray(at, at + 65536));
        secondShare(words, first, rule.ring_bits);
        times.push(performance.now() - begun);
    }
    return times.sort((a, b) => a - b)[times.length >> 1];
}
"""
BEGIN = """
async () => {
    const { port1, port2 } = new MessageChannel();
    const files = await new Promise((resolve) => {
        port1.onmessage = ({ data }) => resolve(data);
        navigator.serviceWorker.controller.postMessage({ want: ["publication.json"] }, [port2]);
    });
    const publication = JSON.parse(new TextDecoder().decode(files["publication.json"]));
    const worker = new Worker("worker.js", { type: "module" });
    window.tell = (message) => new Promise((resolve) => {
        worker.onmessage = ({ data }) => data.progress === undefined && resolve(data);
        worker.postMessage({ id: 0, ...message });
    });
    await window.tell({ action: "start", publication });
}
"""
ASK = """
async (picture) => {
    const bytes = Uint8Array.from(atob(picture), (one) => one.charCodeAt(0)).buffer;
    const begun = performance.now();
    await window.tell({ action: "look", bytes });
    const seen = performance.now();
    const { answer, refused } = await window.tell({ action: "ask" });
    if (refused) throw new Error(refused);
    return [(seen - begun) / 1000, answer.seconds, (performance.now() - seen) / 1000];
}
"""


@contextmanager
def operators(folder: Path, origin: str, stock: int) -> Iterator[Path]:
    """Runs the three of them."""
    kits = folder / "kits"
    first, second = (Address("127.0.0.1", free_port(), free_port()) for _ in (0, 1))
    make_kits(kits, Operators((first, second)))
    running = []
    for party, kit in enumerate(("operator-0", "operator-1", "dealer")):
        command = [*PYTHON, "inference", "operator", "--party", str(party)]
        command += ["--kit", str(kits / kit), "--origin", origin, "--stock", str(stock)]
        running.append(subprocess.Popen(command))  # noqa: S603 - our own command line
    try:
        yield kits
    finally:
        for one in running:
            one.terminate()
            one.wait()


def published(kits: Path, stock: int) -> Offered:
    """Publishes the network, and waits for material."""
    owned = Owned(
        model=build("squeezenet", shape=SHAPE, classes=5, seed=0).eval(),
        name="squeezenet",
        classes=tuple("abcde"),
        shape=SHAPE,
        preprocessing=Preprocessing(),
    )
    pictures = torch.rand(64, *SHAPE, generator=torch.Generator().manual_seed(0)) * 4 - 2
    compiled = compile_owned(owned, pictures)
    card = card_of(owned, compiled)
    retried(lambda: publish(kits / "owner", compiled, card))
    patient = Patient(kits)
    try:
        while (found := retried(lambda: patient.model(None))).images < stock or not found.ready:
            time.sleep(1)
    finally:
        patient.close()
    return found


def retried(does: Callable[[], T]) -> T:
    """Asks until the operators have begun."""
    end = time.monotonic() + 60
    while True:
        try:
            return does()
        except ConsiliumError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def measure(page: Page, url: str, repeats: int) -> dict[str, float]:
    page.goto(url)
    page.wait_for_selector("#file:enabled", state="attached", timeout=120_000)
    page.evaluate(BEGIN)
    levels = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    picture = base64.b64encode(encoded(levels)).decode()
    seen, online, whole = zip(*(page.evaluate(ASK, picture) for _ in range(repeats)), strict=True)
    return {
        "look_seconds": statistics.median(seen),
        "answer_seconds": statistics.median(online),
        "with_check_seconds": statistics.median(whole),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=5)
    repeats = options.parse_args().repeats
    port = free_port()
    with (
        tempfile.TemporaryDirectory() as folder,
        operators(Path(folder), f"http://127.0.0.1:{port}", repeats) as kits,
        sync_playwright() as playwright,
    ):
        offered = published(kits, repeats)
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        site = make_encrypted_site(read_operators(kits), offered)
        with make_server(site, ("127.0.0.1", port)) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            page = browser.new_context(ignore_https_errors=True).new_page()
            found = measure(page, f"http://127.0.0.1:{port}/", repeats)
            server.shutdown()
        bare = browser.new_page()
        bare.goto("about:blank")
        bare.evaluate(LOAD, base64.b64encode(SCRIPT.read_bytes()).decode())
        program, card = offered.program, offered.card
        rule = {
            "mean": card.mean,
            "std": card.std,
            "standardise_each_image": card.standardise_each_image,
            "image_fraction": program.image_fraction,
            "ring_bits": program.ring_bits,
        }
        found["sharing_ms"] = bare.evaluate(SHARING, [rule, 21])
        browser.close()
    found |= {"download_bytes": site.download, "load": os.getloadavg()[0]}
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

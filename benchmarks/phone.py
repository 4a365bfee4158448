# SPDX-License-Identifier: Apache-2.0
"""Looking at a picture on the phone page against onnxruntime of this machine, one thread each.

SqueezeNet 1.1 at 224 px, grey, weights of the registry (time does not depend on them). The two
are asked in turn, so that other load falls on both; medians, and what a phone downloads in all.

    python benchmarks/phone.py --repeats 15     # needs `make phone` and /usr/bin/chromium
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright
from tests.phone.made import chest, encoded, exported, finished, served

from consilium.adapters.device import DeviceModel
from consilium.adapters.model_card import INPUT
from consilium.web.phone.site import make_site

BEGIN = """
async () => {
    const asked = (want) => new Promise((resolve) => {
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = ({ data }) => resolve(data);
        navigator.serviceWorker.controller.postMessage({ want }, [port2]);
    });
    const files = await asked(["card.json", "model.onnx", "ort.wasm"]);
    const worker = new Worker("worker.js", { type: "module" });
    window.tell = (message) => new Promise((resolve) => {
        worker.onmessage = ({ data }) => data.progress === undefined && resolve(data.answer);
        worker.postMessage({ id: 0, ...message });
    });
    const card = JSON.parse(new TextDecoder().decode(files["card.json"]));
    card.kind = null;
    const begun = performance.now();
    const [model, wasm] = [files["model.onnx"], files["ort.wasm"]];
    await window.tell({ action: "start", card, model, wasm });
    return performance.now() - begun;
}
"""
# A heat map is 49 runs of the network and nothing else.
ASK = """
async (picture) => {
    await window.tell({ action: "look", bytes: Uint8Array.from(picture).buffer });
    const begun = performance.now();
    await window.tell({ action: "where" });
    return (performance.now() - begun) / 49;
}
"""


def native(device: DeviceModel, levels: np.typing.NDArray[np.uint8]) -> float:
    begun = time.perf_counter()
    for _ in range(49):
        device.session.run(None, {INPUT: levels})
    return 1000 * (time.perf_counter() - begun) / 49


def measure(page: Page, model: Path, picture: bytes, repeats: int) -> dict[str, float]:
    device = DeviceModel.load(model)
    levels = np.random.default_rng(0).integers(0, 256, (1, 1, 224, 224), dtype=np.uint8)
    start = page.evaluate(BEGIN)
    pairs = [(page.evaluate(ASK, list(picture)), native(device, levels)) for _ in range(repeats)]
    wasm, here = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    return {"start_ms": start, "wasm_ms": wasm, "native_ms": here, "ratio": ratio}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=15)
    repeats = options.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        model = exported(Path(folder), finished("squeezenet", shape=(1, 224, 224)))
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        page = browser.new_page()
        with served(model) as (url, _end):
            page.goto(url)
            page.wait_for_selector("#file:enabled", state="attached", timeout=120_000)
            found = measure(page, model, encoded(chest()), repeats)
        site = make_site(model)
        browser.close()
    found["download_bytes"] = site.download
    found["model_bytes"] = len(site.files["model.onnx"])
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

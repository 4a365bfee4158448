# SPDX-License-Identifier: Apache-2.0
"""Looking at a picture on the phone page, one thread, against two others on this machine.

SqueezeNet 1.1 at 224 px, grey, weights of the registry (time does not depend on them). Native:
onnxruntime in Python. Bare: onnxruntime-web alone on an empty page, the same file and the same
browser. The three are asked in turn, so that other load falls on all; medians of the times and of
the ratios of each turn, and what a phone downloads in all. `factor` is bare / native, and
`over_factor` is the page's time over native x factor; at most 1.5 was asked for.

    python benchmarks/phone.py --repeats 15     # needs `make phone` and /usr/bin/chromium
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, Page, Route, sync_playwright
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


BARE = """
async () => {
    const ort = await import("http://bare.test/ort.mjs");
    const loaded = async (name) => new Uint8Array(await (await fetch(name)).arrayBuffer());
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmBinary = (await loaded("ort.wasm")).buffer;
    const data = await loaded("model.onnx");
    const session = await ort.InferenceSession.create(data, { executionProviders: ["wasm"] });
    const levels = crypto.getRandomValues(new Uint8Array(224 * 224));
    const image = new ort.Tensor("uint8", levels, [1, 1, 224, 224]);
    window.time = async (runs) => {
        const begun = performance.now();
        for (let k = 0; k < runs; k++) await session.run({ image });
        return (performance.now() - begun) / runs;
    };
    await window.time(3);
}
"""
ORT = Path(__file__).parents[1] / "web-build/phone/node_modules/onnxruntime-web/dist"


def bare(browser: Browser, model: Path) -> Page:
    """Returns an empty page that has only the model and onnxruntime-web."""
    files = {
        "": (b"<!doctype html><title>bare</title>", "text/html"),
        "ort.mjs": ((ORT / "ort.wasm.min.mjs").read_bytes(), "text/javascript"),
        "ort.wasm": ((ORT / "ort-wasm-simd-threaded.wasm").read_bytes(), "application/wasm"),
        "ort-wasm-simd-threaded.mjs": (
            (ORT / "ort-wasm-simd-threaded.mjs").read_bytes(),
            "text/javascript",
        ),
        "model.onnx": (model.read_bytes(), "application/octet-stream"),
    }

    def answer(route: Route) -> None:
        body, kind = files[route.request.url.rpartition("/")[2]]
        route.fulfill(body=body, content_type=kind)

    page = browser.new_page()
    page.route("http://bare.test/**", answer)
    page.goto("http://bare.test/")
    page.evaluate(BARE)
    return page


def native(device: DeviceModel, levels: np.typing.NDArray[np.uint8]) -> float:
    begun = time.perf_counter()
    for _ in range(49):
        device.session.run(None, {INPUT: levels})
    return 1000 * (time.perf_counter() - begun) / 49


def measure(page: Page, alone: Page, model: Path, repeats: int) -> dict[str, float]:
    device = DeviceModel.load(model)
    levels = np.random.default_rng(0).integers(0, 256, (1, 1, 224, 224), dtype=np.uint8)
    start, picture = page.evaluate(BEGIN), list(encoded(chest()))
    turns = [
        (page.evaluate(ASK, picture), alone.evaluate("time(49)"), native(device, levels))
        for _ in range(repeats)
    ]
    ours, wasm, here = (statistics.median(side) for side in zip(*turns, strict=True))
    return {
        "start_ms": start,
        "wasm_ms": ours,
        "bare_ms": wasm,
        "native_ms": here,
        "ratio": statistics.median(page / plain for page, _, plain in turns),
        "factor": statistics.median(alone / plain for _, alone, plain in turns),
        "over_factor": statistics.median(page / alone for page, alone, _ in turns),
    }


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
            found = measure(page, bare(browser, model), model, repeats)
        site = make_site(model)
        browser.close()
    found["load"] = os.getloadavg()[0]
    found["download_bytes"] = site.download
    found["model_bytes"] = len(site.files["model.onnx"])
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

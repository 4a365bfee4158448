// The page's way to its files (the service worker) and to the model (worker.js).

import { Refused } from "./picture.js";

// "all": for a day the browser takes sw.js from its cache where it would ask for a newer one,
// as it does when a worker begins, so that using the page asks the network for nothing.

const FILES = ["card.json", "model.onnx", "ort.wasm"];

/** Waits until every file is on this device; rejects where the browser cannot keep them. */
export async function installed(onProgress) {
  if (!navigator.serviceWorker || !globalThis.OffscreenCanvas) throw new Refused("unable");
  navigator.serviceWorker.onmessage = ({ data }) => data.loaded && onProgress(data);
  const registration = await navigator.serviceWorker.register("sw.js", { updateViaCache: "all" });
  if (navigator.serviceWorker.controller) return;
  await new Promise((resolve, reject) => {
    navigator.serviceWorker.oncontrollerchange = resolve;
    const coming = registration.installing;
    if (coming)
      coming.onstatechange = () => coming.state === "redundant" && reject(new Refused("unable"));
  });
}

function asked(message) {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = ({ data }) => resolve(data);
    navigator.serviceWorker.controller.postMessage(message, [port2]);
  });
}

/** Takes every file of this page off the device. */
export const forget = () => asked({ forget: true });

export class Engine {
  #worker;
  #waiting = new Map();
  #next = 0;

  static async begun() {
    const engine = new Engine();
    await engine.#start();
    return engine;
  }

  async #start() {
    const files = await asked({ want: FILES });
    if (FILES.some((name) => !files[name])) throw new Refused("failed");
    this.card = JSON.parse(new TextDecoder().decode(files["card.json"]));
    this.#worker = new Worker("worker.js", { type: "module" });
    this.#worker.onmessage = ({ data }) => this.#heard(data);
    this.#worker.onerror = () => this.#lost();
    const { card } = this;
    const [model, wasm] = [files["model.onnx"], files["ort.wasm"]];
    await this.#tell({ action: "start", card, model, wasm }, [model, wasm]);
  }

  /** Ends the worker, and with it all that it held; the next question begins a new one. */
  stop() {
    this.#worker?.terminate();
    this.#worker = undefined;
    this.#lost();
  }

  look = (bytes) => this.#ask({ action: "look", bytes }, [bytes]);
  where = (onProgress) => this.#ask({ action: "where" }, [], onProgress);
  digest = () => this.#ask({ action: "digest" });

  /** What a probability was worth on test pictures; undefined where that was not measured. */
  certainty(probability) {
    return this.card.certainties.findLast(({ above }) => probability > above);
  }

  async #ask(...message) {
    if (!this.#worker) await this.#start();
    return this.#tell(...message);
  }

  #tell(message, moved = [], onProgress = undefined) {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, onProgress });
      this.#worker.postMessage({ id, ...message }, moved);
    });
  }

  #heard({ id, answer, refused, progress }) {
    const waiting = this.#waiting.get(id);
    if (!waiting) return;
    if (progress !== undefined) return waiting.onProgress?.(progress);
    this.#waiting.delete(id);
    if (refused) waiting.reject(new Refused(refused));
    else waiting.resolve(answer);
  }

  #lost() {
    for (const { reject } of this.#waiting.values()) reject(new Refused("failed"));
    this.#waiting.clear();
  }
}

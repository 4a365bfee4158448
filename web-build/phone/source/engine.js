// The page's way to the model, which runs in worker.js.

import { handed, parsed } from "./files.js";
import { Talk } from "./talk.js";

const FILES = ["card.json", "model.onnx", "ort.wasm"];

export class Engine {
  #talk = new Talk(async () => {
    const files = await handed(FILES);
    const card = (this.card = parsed(files["card.json"]));
    const [model, wasm] = [files["model.onnx"], files["ort.wasm"]];
    return [{ card, model, wasm }, [model, wasm]];
  });

  static async begun() {
    const engine = new Engine();
    await engine.#talk.start();
    return engine;
  }

  stop = () => this.#talk.stop();
  look = (bytes) => this.#talk.ask({ action: "look", bytes }, [bytes]);
  where = (onProgress) => this.#talk.ask({ action: "where" }, [], onProgress);
  digest = () => this.#talk.ask({ action: "digest" });
}

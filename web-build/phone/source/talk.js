// The page's half of a conversation with worker.js: each question gets one answer or a refusal.

import { Refused } from "./picture.js";

export class Talk {
  #worker;
  #starting;
  #waiting = new Map();
  #next = 0;

  /** `starting` returns the first message of a worker, and what of it moves there. */
  constructor(starting) {
    this.#starting = starting;
  }

  async start() {
    const [message, moved] = await this.#starting();
    this.#worker = new Worker("worker.js", { type: "module" });
    this.#worker.onmessage = ({ data }) => this.#heard(data);
    this.#worker.onerror = () => this.#lost();
    await this.#tell({ action: "start", ...message }, moved);
  }

  /** Ends the worker, and with it all that it held and asked; the next question begins a new one. */
  stop() {
    this.#worker?.terminate();
    this.#worker = undefined;
    this.#lost();
  }

  async ask(...message) {
    if (!this.#worker) await this.start();
    return this.#tell(...message);
  }

  #tell(message, moved = [], onProgress = undefined) {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, onProgress });
      this.#worker.postMessage({ id, ...message }, moved);
    });
  }

  #heard({ id, answer, refused, facts, progress }) {
    const waiting = this.#waiting.get(id);
    if (!waiting) return;
    if (progress !== undefined) return waiting.onProgress?.(progress);
    this.#waiting.delete(id);
    if (refused) waiting.reject(new Refused(refused, facts));
    else waiting.resolve(answer);
  }

  #lost() {
    for (const { reject } of this.#waiting.values()) reject(new Refused("failed"));
    this.#waiting.clear();
  }
}

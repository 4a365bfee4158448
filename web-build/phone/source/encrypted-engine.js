// The page's way to the operators, whom only worker.js can reach.

import { handed, parsed } from "./files.js";
import { Talk } from "./talk.js";

export class Asker {
  #talk = new Talk(async () => {
    this.publication = parsed((await handed(["publication.json"]))["publication.json"]);
    return [{ publication: this.publication }, []];
  });

  static async begun() {
    const asker = new Asker();
    await asker.#talk.start();
    return asker;
  }

  /** What the page shows of the model; the worker gets the card as it was signed. */
  get card() {
    const { card } = this.publication;
    return { ...card, ...card.about };
  }

  get hosts() {
    return this.publication.operators.map((origin) => new URL(origin).host);
  }

  stop = () => this.#talk.stop();
  look = (bytes) => this.#talk.ask({ action: "look", bytes }, [bytes]);
  ask = (onProgress) => this.#talk.ask({ action: "ask" }, [], onProgress);
}

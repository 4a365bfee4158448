// The two operators' HTTPS ends, as docs/inference.md says: the only code of this page that asks
// a network for anything, and shares and tokens are all that it is ever given to send.

import { Refused } from "./picture.js";
import { canonical } from "./verify.js";

const ANSWER = 90_000; // milliseconds until an answer has to be there
const SAID = 30_000; // for one request

/** Another operator's share and token never come here: one object an operator. */
export class Operator {
  constructor(origin) {
    this.origin = origin;
    this.host = new URL(origin).host;
  }

  /** What this operator says of the publication; refuses what is not as the page was made for. */
  async check({ publication, ring_bits, image_fraction, unit, image, card }, signal) {
    const said = await this.#ask("/v1/models", {}, signal);
    const { models } = JSON.parse(new TextDecoder().decode(said.body));
    const found = models.find((one) => one.publication === publication);
    if (!found) throw this.#refused("revoked");
    const same =
      found.ring_bits === ring_bits &&
      found.image_fraction === image_fraction &&
      found.unit === unit &&
      String(found.image) === String(image) &&
      canonical(found.card) === canonical(card);
    if (!same) throw this.#refused("changed");
    if (!found.ready || found.images < 1) throw this.#refused("empty");
  }

  async send({ publication, session, token, share }, signal) {
    const path = `/v1/sessions/${session}?model=${publication}&count=1`;
    const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/octet-stream" };
    const reasons = { 403: "revoked", 503: "busy" };
    await this.#ask(path, { method: "POST", headers, body: share }, signal, reasons);
  }

  /** This operator's share of the answer. */
  async answer({ session, token }, signal) {
    const headers = { Authorization: `Bearer ${token}` };
    const reasons = { 403: "stopped", 410: "stopped" }; // 403: it began anew and forgot the session
    for (const end = Date.now() + ANSWER; Date.now() < end; ) {
      const said = await this.#ask(`/v1/sessions/${session}/answer`, { headers }, signal, reasons);
      if (said.status === 200) return new Uint8Array(said.body);
    }
    throw this.#refused("late");
  }

  async #ask(path, options, signal, reasons = {}) {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(SAID)]);
    const fixed = { cache: "no-store", credentials: "omit", mode: "cors", redirect: "error" };
    let status, body;
    try {
      const said = await fetch(this.origin + path, { ...fixed, ...options, signal: limit });
      [status, body] = [said.status, await said.arrayBuffer()];
    } catch {
      throw this.#refused("away");
    }
    if (status === 200 || status === 202) return { status, body };
    throw this.#refused(reasons[status] ?? "declined");
  }

  #refused(reason) {
    return new Refused(reason, { operator: this.host });
  }
}

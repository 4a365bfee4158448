// A worker's half of talk.js: names of actions come, answers, progress and refusals go.

import { Refused } from "./picture.js";

/** Answers the page by `actions`: each gets the request, and a way to tell how far it is. */
export function serve(actions) {
  self.onmessage = async ({ data: { id, action, ...request } }) => {
    const progress = (done) => self.postMessage({ id, progress: done });
    try {
      self.postMessage({ id, answer: await actions[action](request, progress) });
    } catch (error) {
      const refused = error instanceof Refused ? error.reason : "failed";
      self.postMessage({ id, refused, facts: error.facts });
    }
  };
}

// SPDX-License-Identifier: Apache-2.0
// Follows a run: each event of the stream holds the part of the page that changed, as the server
// drew it. Nothing is computed or stored here, and nothing but this origin is asked.
const place = document.getElementById("live");
const state = document.getElementById("live-state");
const source = new EventSource(place.dataset.stream);

source.addEventListener("part", (event) => {
  const parsed = new DOMParser().parseFromString(event.data, "text/html");
  const open = document.activeElement?.closest("[id], [aria-labelledby]");
  const again = open?.getAttribute("aria-labelledby");
  place.replaceChildren(...parsed.body.childNodes);
  if (again) place.querySelector(`[aria-labelledby="${again}"]`)?.focus();
});
source.addEventListener("open", () => { if (state) state.textContent = "This page follows the run."; });
source.addEventListener("error", () => { if (state) state.textContent = "The connection was lost; trying again."; });
source.addEventListener("end", () => {
  source.close();
  if (state) state.textContent = "The run has ended.";
});

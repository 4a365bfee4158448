// SPDX-License-Identifier: Apache-2.0
// Adds a slider to the question "what if I only allow less?"; the server works out the answer.
const form = document.querySelector("[data-what-if]");
const number = form.querySelector("[name=allow]");
const slider = document.createElement("input");
Object.assign(slider, {
  type: "range",
  min: form.dataset.lowest,
  max: form.dataset.highest,
  step: form.dataset.step,
  value: number.value,
});
slider.setAttribute("aria-label", "The same, as a slider");
number.after(slider);

let asked = 0;
let waiting;
async function answer() {
  const mine = ++asked;
  const page = await fetch(`${form.getAttribute("action").split("#")[0]}?allow=${encodeURIComponent(number.value)}`);
  if (mine !== asked || !page.ok) return;
  const fresh = new DOMParser().parseFromString(await page.text(), "text/html");
  form.querySelector("[data-answer]").replaceChildren(...fresh.querySelector("[data-answer]").childNodes);
}
slider.addEventListener("input", () => {
  number.value = slider.value;
  clearTimeout(waiting);
  waiting = setTimeout(answer, 200);
});
number.addEventListener("input", () => { slider.value = number.value; });

// The page of the encrypted mode: what is shown and pressed. It may not reach the network at all
// (connect-src 'none'); only worker.js can, and there the two operators alone.

import { Asker } from "./encrypted-engine.js";
import { forget } from "./files.js";
import {
  $,
  begun,
  emptied,
  items,
  kindWords,
  privacyWords,
  sayAnswer,
  sayFixed,
  sayRefusal,
  saySigned,
} from "./page.js";
import { drawPreview } from "./pictures.js";
import { Words } from "./words.js";
import de from "./words/encrypted.de.json";
import en from "./words/encrypted.en.json";

const OWN = { de, en };
const SECTIONS = ["picture", "result", "refusal", "confirm", "asking", "delete"];
const TICK = 1000; // milliseconds

let words = new Words(navigator.language.slice(0, 2), OWN);
let shown = { state: "loading" }; // what is on the page, to say it again in another language
let asker;

// -- Words -------------------------------------------------------------------------------

function sayEverything() {
  sayFixed(words, asker?.card);
  if (asker) sayAbout();
  sayState();
}

function sayState() {
  const { state, seen, found, refused } = shown;
  const may = state === "seen" || (state === "refused" && seen);
  $("confirm").hidden = !may;
  $("delete").hidden = may || !["asking", "found", "refused"].includes(state);
  $("asking").hidden = state !== "asking";
  if (shown.ready) $("ready").textContent = words.of("ready");
  if (seen) sayConfirm(seen, state === "refused");
  if (state === "asking") $("said").textContent = words.of(`asking.${shown.step}`);
  if (state === "found") sayAnswer(words, asker.card, found.probabilities);
  if (refused) {
    const help = seen ? "refused.again" : "refused.help";
    sayRefusal(words, asker.card, refused.reason, refused.facts, help);
  }
  if (state === "deleted") $("said").textContent = words.of("deleted");
  $("preview").setAttribute("aria-label", words.of("picture"));
}

function sayConfirm({ bytes }, again) {
  const [first, second] = asker.hosts;
  const [unit, least] = bytes >= 1e6 ? ["megabyte", 1e6] : ["kilobyte", 1e3];
  const style = { style: "unit", unit, maximumSignificantDigits: 2 };
  const size = new Intl.NumberFormat(words.language, style).format(bytes / least);
  $("confirm-said").textContent = words.of("confirm.said", { first, second, size });
  $("confirm-kind").textContent = asker.card.kind ? "" : words.of("confirm.nokind");
  $("send").textContent = words.of(again ? "send.again" : "send");
}

// -- A picture ---------------------------------------------------------------------------

async function look(input) {
  const [file] = input.files;
  if (!file) return;
  asker.stop(); // whatever is under way is of another picture
  clear();
  const current = shown;
  $("said").textContent = words.of("looking");
  const next = await looked(file);
  if (shown !== current) return;
  shown = { ...shown, ...next };
  input.value = "";
  $("said").textContent = "";
  sayState();
  (shown.state === "seen" ? $("confirm-title") : $("refused")).focus();
}

async function looked(file) {
  try {
    const { verdict, preview, bytes } = await asker.look(await file.arrayBuffer());
    drawPreview($("preview"), preview);
    $("picture").hidden = false;
    if (verdict !== "known") return { state: "refused", refused: { reason: verdict } };
    return { state: "seen", seen: { bytes } };
  } catch (refused) {
    return { state: "refused", refused };
  }
}

/** Sends the parts, after the page said what is sent to whom and was told to. */
async function send() {
  $("refusal").hidden = true;
  $("refused").textContent = "";
  const asking = (shown = { ...shown, state: "asking", step: "checking", refused: undefined });
  const clock = ticking();
  sayState();
  const next = await answered(asking);
  clearInterval(clock);
  if (shown !== asking) return; // deleted meanwhile, or another picture
  shown = { ...asking, ...next };
  $("said").textContent = "";
  sayState();
  (shown.state === "found" ? $("answer") : $("refused")).focus();
}

async function answered(asking) {
  try {
    const { probabilities } = await asker.ask((step) => {
      if (shown !== asking) return;
      asking.step = step;
      sayState();
    });
    return { state: "found", found: { probabilities } };
  } catch (refused) {
    // Only the page is told reliably whether there is a network at all.
    const offline = refused.reason === "away" && !navigator.onLine;
    return { state: "refused", refused: offline ? { reason: "offline" } : refused };
  }
}

function ticking() {
  const begun = Date.now();
  const tick = () => {
    const seconds = Math.floor((Date.now() - begun) / 1000);
    $("elapsed").textContent = words.of("asking.seconds", { seconds });
  };
  tick();
  return setInterval(tick, TICK);
}

function clear() {
  emptied(SECTIONS, ["confirm-said", "confirm-kind", "elapsed"]);
  shown = { ready: shown.ready, state: "empty" };
}

function deleteEverything() {
  clear();
  for (const id of ["file", "camera"]) $(id).value = "";
  asker.stop(); // what it held of the picture goes with its memory, and what it asks ends
  shown = { ...shown, state: "deleted" };
  sayState();
  $("file").focus();
}

// -- The model and the operators ---------------------------------------------------------

function sayAbout() {
  const { card, publication: { publication, card: written } } = asker;
  const [first, second] = asker.hosts;
  const classes = card.classes.map((one) => words.class(one)).join(", ");
  const list = document.createElement("ul");
  items(list, [
    words.of("about.name", { name: card.name, classes }),
    words.of("about.operators", { first, second }),
    words.of("about.together"),
    words.of("about.honest"),
    words.of("about.answer"),
    words.of(`about.${card.ranges}`, { images: card.calibrated_on }),
    card.kind ? words.of("about.kind", { kind: kindWords(words, card) }) : words.of("about.nokind"),
    ...(card.privacy.private ? [privacyWords(words, card.privacy)] : []),
  ]);
  $("facts").replaceChildren(list);
  $("publication").textContent = publication.match(/.{8}/g).join(" ");
  saySigned(words, written);
}

async function remove() {
  clear();
  asker.stop();
  await forget();
  for (const one of document.querySelectorAll("button, input")) one.disabled = true;
  $("ready").textContent = "";
  shown = { state: "removed" };
  $("said").textContent = words.of("removed");
}

// -- Beginning ---------------------------------------------------------------------------

async function begin() {
  sayEverything();
  $("language").onchange = ({ target }) => {
    words = new Words(target.value, OWN);
    sayEverything();
  };
  asker = await begun(Asker, () => words);
  if (!asker) return;
  for (const id of ["file", "camera", "remove"]) $(id).disabled = false;
  for (const id of ["file", "camera"]) $(id).onchange = ({ target }) => look(target);
  $("send").onclick = send;
  for (const id of ["keep", "delete"]) $(id).onclick = deleteEverything;
  $("remove").onclick = remove;
  shown = { state: "empty", ready: true };
  sayEverything();
}

begin();

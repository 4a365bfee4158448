// The page: what is shown and pressed. It may not reach the network at all (connect-src 'none');
// its files come from the service worker, and the picture goes to worker.js alone.

import { Engine } from "./engine.js";
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
import { drawHeat, drawPreview } from "./pictures.js";
import { Words } from "./words.js";

let words = new Words(navigator.language.slice(0, 2));
let shown = { state: "loading" }; // what is on the page, to say it again in another language
let engine;

// -- Words -------------------------------------------------------------------------------

function sayEverything() {
  sayFixed(words, engine?.card);
  if (engine) sayAbout(engine.card);
  sayState();
}

function sayState() {
  if (shown.ready) $("ready").textContent = words.of("ready");
  if (shown.state === "seen") sayAnswer(words, engine.card, shown.seen.probabilities);
  if (shown.state === "refused") sayRefusal(words, engine.card, shown.reason);
  if (shown.state === "deleted") $("said").textContent = words.of("deleted");
  if (shown.heat) sayHeat(shown.heat);
  $("preview").setAttribute("aria-label", words.of("picture"));
}

// -- A picture ---------------------------------------------------------------------------

async function look(input) {
  const [file] = input.files;
  if (!file) return;
  clear();
  $("said").textContent = words.of("looking");
  try {
    const seen = await engine.look(await file.arrayBuffer());
    drawPreview($("preview"), seen.preview);
    $("picture").hidden = false;
    delete seen.levels;
    shown = { ...shown, state: "seen", seen };
    if (seen.verdict !== "known") shown = { ...shown, state: "refused", reason: seen.verdict };
  } catch (refused) {
    shown = { ...shown, state: "refused", reason: refused.reason ?? "failed" };
  }
  input.value = "";
  $("said").textContent = "";
  $("delete").hidden = false;
  sayState();
  (shown.state === "seen" ? $("answer") : $("refused")).focus();
}

async function where() {
  $("where").disabled = true;
  const asked = shown.seen;
  try {
    const heat = await engine.where((done) => {
      const percent = Math.floor(done * 10) * 10;
      $("where-said").textContent = words.of("where.working", { percent });
    });
    if (shown.seen !== asked) return;
    shown = { ...shown, heat };
    sayHeat(heat);
  } catch (refused) {
    if (shown.seen === asked) $("where-said").textContent = words.of(`refused.${refused.reason}`);
  } finally {
    $("where").disabled = false;
  }
}

function sayHeat(heat) {
  const place = drawHeat($("heat"), $("preview"), heat, shown.seen.square);
  $("heat").hidden = place === undefined;
  const named = words.list("place")[place];
  $("heat").setAttribute("aria-label", place === undefined ? "" : words.of("heat", { place: named }));
  $("where-said").textContent =
    place === undefined ? words.of("where.none") : words.of("where.done", { place: named });
}

function clear() {
  emptied(["picture", "result", "refusal", "heat", "delete"], ["where-said"]);
  shown = { ready: shown.ready, state: "empty" };
}

function deleteEverything() {
  clear();
  for (const id of ["file", "camera"]) $(id).value = "";
  engine.stop(); // what it held of the picture goes with its memory
  shown = { ...shown, state: "deleted" };
  sayState();
  $("file").focus();
}

// -- The model ---------------------------------------------------------------------------

function sayAbout(card) {
  const { privacy } = card;
  const facts = [words.of("about.trained", card)];
  facts.push(privacyWords(words, privacy));
  const classes = card.classes.map((one) => words.class(one)).join(", ");
  facts.push(words.of("about.network", { ...card, classes, kb: Math.ceil(card.size / 1000) }));
  facts.push(card.kind ? words.of("about.kind", { kind: kindWords(words, card) }) : words.of("about.nokind"));
  const list = document.createElement("ul");
  items(list, facts);
  $("facts").replaceChildren(list);
  sayStatement(card);
}

function sayStatement({ privacy, sentence }) {
  const list = document.createElement("ul");
  items(list, [
    sentence,
    ...privacy.guarantees.map((one) => `${one.who}: epsilon ${one.epsilon.toFixed(4)}`),
    `Neighbours: ${privacy.neighbouring_relation}, one ${privacy.unit}; delta ${privacy.delta}`,
    privacy.mechanism,
    `Sampling: ${privacy.sampling}`,
    `Charged: ${privacy.steps_charged} steps; accountant: ${privacy.accountant}`,
    `Trusted: ${privacy.trusted}`,
    ...privacy.public.map((one) => `Public: ${one}`),
    ...privacy.not_covered.map((one) => `Not covered: ${one}`),
    ...privacy.fails_if.map((one) => `Fails if ${one}`),
  ]);
  $("statement").replaceChildren(list);
}

async function verify() {
  const found = await engine.digest();
  const digest = found.match(/.{8}/g).join(" ");
  const key = found === engine.card.sha256 ? "verified" : "unverified";
  $("verified").textContent = words.of(key, { digest });
  await saySigned(words, engine.card);
}

async function remove() {
  clear();
  engine.stop();
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
    words = new Words(target.value);
    sayEverything();
  };
  engine = await begun(Engine, () => words);
  if (!engine) return;
  for (const id of ["file", "camera", "verify", "remove"]) $(id).disabled = false;
  for (const id of ["file", "camera"]) $(id).onchange = ({ target }) => look(target);
  $("where").onclick = where;
  $("delete").onclick = deleteEverything;
  $("verify").onclick = verify;
  $("remove").onclick = remove;
  shown = { state: "empty", ready: true };
  sayEverything();
}

begin();

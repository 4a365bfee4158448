// The page: what is shown and pressed. It may not reach the network at all (connect-src 'none');
// its files come from the service worker, and the picture goes to worker.js alone.

import { Engine, forget, installed } from "./engine.js";
import { drawHeat, drawPreview } from "./pictures.js";
import { verifyCard } from "./verify.js";
import { Words } from "./words.js";

const $ = (id) => document.getElementById(id);
let words = new Words(navigator.language.slice(0, 2));
let shown = { state: "loading" }; // what is on the page, to say it again in another language
let engine;

// -- Words -------------------------------------------------------------------------------

function sayEverything() {
  document.documentElement.lang = words.language;
  $("language").value = words.language;
  for (const element of document.querySelectorAll("[data-words]"))
    element.textContent = words.of(element.dataset.words);
  const kind = engine?.card.kind?.name;
  $("title").textContent = words.of(words.has(`title.${kind}`) ? `title.${kind}` : "title");
  document.title = $("title").textContent;
  if (engine) sayAbout(engine.card);
  sayState();
}

function sayState() {
  if (shown.ready) $("ready").textContent = words.of("ready");
  if (shown.state === "seen") sayAnswer(shown.seen);
  if (shown.state === "refused") sayRefusal(shown.reason);
  if (shown.state === "deleted") $("said").textContent = words.of("deleted");
  if (shown.heat) sayHeat(shown.heat);
  $("preview").setAttribute("aria-label", words.of("picture"));
}

function kindWords() {
  const { kind } = engine.card;
  return kind && words.has(`kind.${kind.name}`) ? words.of(`kind.${kind.name}`) : kind?.name;
}

function items(list, texts) {
  list.replaceChildren(
    ...texts.map((text) => Object.assign(document.createElement("li"), { textContent: text })),
  );
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

function sayAnswer({ probabilities }) {
  const top = probabilities.indexOf(Math.max(...probabilities));
  const measured = engine.certainty(probabilities[top]);
  const level = levelOf(measured);
  const name = words.class(engine.card.classes[top]);
  $("answer").textContent = words.of(level === "low" ? "unsure" : "answer", { class: name });
  $("certainty").textContent = words.of(`certainty.${level}`);
  $("measured").textContent = measured
    ? words.of("measured", { right: measured.right_of_ten, records: measured.records })
    : words.of("unmeasured");
  const kind = `next.${engine.card.kind?.name}`;
  items($("next"), words.list(words.has(kind) ? kind : "next.none"));
  items(
    $("all"),
    engine.card.classes.map((one, i) => {
      const likely = i === top ? "most" : probabilities[i] >= 0.2 ? "possible" : "unlikely";
      return `${words.class(one)}: ${words.of(`all.${likely}`)}`;
    }),
  );
  $("result").hidden = false;
}

function levelOf(measured) {
  if (!measured) return "unknown";
  return measured.right_of_ten >= 9 ? "high" : measured.right_of_ten >= 7 ? "moderate" : "low";
}

function sayRefusal(reason) {
  $("refused").textContent = words.of(`refused.${reason}`, { kind: kindWords() });
  $("refused-help").textContent = words.of("refused.help");
  $("refusal").hidden = false;
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
  for (const canvas of [$("preview"), $("heat")]) canvas.width = canvas.height = 0;
  for (const id of ["picture", "result", "refusal", "heat", "delete"]) $(id).hidden = true;
  for (const id of ["answer", "certainty", "measured", "refused", "where-said", "said"])
    $(id).textContent = "";
  for (const id of ["all", "next"]) $(id).replaceChildren();
  for (const details of $("result").querySelectorAll("details")) details.open = false;
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
  const epsilon = Math.max(...privacy.guarantees.map((one) => one.epsilon)).toFixed(4);
  const unit = words.has(`unit.${privacy.unit}`) ? words.of(`unit.${privacy.unit}`) : privacy.unit;
  facts.push(words.of("about.private", { epsilon, unit, delta: privacy.delta }));
  const classes = card.classes.map((one) => words.class(one)).join(", ");
  facts.push(words.of("about.network", { ...card, classes, kb: Math.ceil(card.size / 1000) }));
  facts.push(card.kind ? words.of("about.kind", { kind: kindWords() }) : words.of("about.nokind"));
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
  const { state, ...who } = await verifyCard(engine.card);
  const under = state === "signed" && who.words !== who.owner.words ? "under" : state;
  $("signed").textContent = words.of(`signature.${under}`, {
    ...who,
    owner: who.owner?.name,
    ownerWords: who.owner?.words,
  });
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
  try {
    await installed(({ loaded, total }) => {
      const [done, all] = [loaded, total].map((bytes) => Math.ceil(bytes / 1e6));
      $("ready").textContent = words.of("loading", { done, total: all });
    });
  } catch {
    $("ready").textContent = words.of("unable");
    return;
  }
  try {
    engine = await Engine.begun();
  } catch (refused) {
    const reason = words.of(`refused.${refused.reason ?? "failed"}`);
    $("ready").textContent = words.of("broken", { reason });
    return;
  }
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

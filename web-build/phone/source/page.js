// What the pages of both modes show alike: fixed words, an answer, a refusal, and the beginning.

import { installed } from "./files.js";
import { verifyCard } from "./verify.js";

export const $ = (id) => document.getElementById(id);

export function sayFixed(words, card) {
  document.documentElement.lang = words.language;
  $("language").value = words.language;
  for (const element of document.querySelectorAll("[data-words]"))
    element.textContent = words.of(element.dataset.words);
  const title = `title.${card?.kind?.name}`;
  $("title").textContent = words.of(words.has(title) ? title : "title");
  document.title = $("title").textContent;
}

export function kindWords(words, { kind }) {
  return kind && words.has(`kind.${kind.name}`) ? words.of(`kind.${kind.name}`) : kind?.name;
}

export function privacyWords(words, { guarantees, unit, delta }) {
  const epsilon = Math.max(...guarantees.map((one) => one.epsilon)).toFixed(4);
  const named = words.has(`unit.${unit}`) ? words.of(`unit.${unit}`) : unit;
  return words.of("about.private", { epsilon, unit: named, delta });
}

export function items(list, texts) {
  list.replaceChildren(
    ...texts.map((text) => Object.assign(document.createElement("li"), { textContent: text })),
  );
}

export function sayAnswer(words, card, probabilities) {
  const top = probabilities.indexOf(Math.max(...probabilities));
  const measured = certainty(card, probabilities[top]);
  const level = levelOf(measured);
  const name = words.class(card.classes[top]);
  $("answer").textContent = words.of(level === "low" ? "unsure" : "answer", { class: name });
  $("certainty").textContent = words.of(`certainty.${level}`);
  $("measured").textContent = measured
    ? words.of("measured", { right: measured.right_of_ten, records: measured.records })
    : words.of("unmeasured");
  const next = `next.${card.kind?.name}`;
  items($("next"), words.list(words.has(next) ? next : "next.none"));
  items(
    $("all"),
    card.classes.map((one, i) => {
      const likely = i === top ? "most" : probabilities[i] >= 0.2 ? "possible" : "unlikely";
      return `${words.class(one)}: ${words.of(`all.${likely}`)}`;
    }),
  );
  $("result").hidden = false;
}

/** What a probability was worth on test pictures; undefined where that was not measured. */
function certainty({ certainties }, probability) {
  return certainties.findLast(({ above }) => probability > above);
}

function levelOf(measured) {
  if (!measured) return "unknown";
  return measured.right_of_ten >= 9 ? "high" : measured.right_of_ten >= 7 ? "moderate" : "low";
}

export function sayRefusal(words, card, reason, facts = {}, help = "refused.help") {
  $("refused").textContent = words.of(`refused.${reason}`, { kind: kindWords(words, card), ...facts });
  $("refused-help").textContent = words.of(help);
  $("refusal").hidden = false;
}

/** Says whether a card is as it was signed, and by whom. */
export async function saySigned(words, card) {
  const { state, ...who } = await verifyCard(card);
  const under = state === "signed" && who.words !== who.owner.words ? "under" : state;
  $("signed").textContent = words.of(`signature.${under}`, {
    ...who,
    owner: who.owner?.name,
    ownerWords: who.owner?.words,
  });
}

/** Hides sections, and takes away all that a picture left in them. */
export function emptied(sections, texts = []) {
  for (const canvas of document.querySelectorAll("canvas")) canvas.width = canvas.height = 0;
  for (const id of sections) $(id).hidden = true;
  for (const id of ["answer", "certainty", "measured", "refused", "said", ...texts])
    $(id).textContent = "";
  for (const id of ["all", "next"]) $(id).replaceChildren();
  for (const details of $("result").querySelectorAll("details")) details.open = false;
}

/** Keeps the page on the device and begins `Kind`'s worker; undefined where that fails. */
export async function begun(Kind, words) {
  try {
    await installed(({ loaded, total }) => {
      const [done, all] = [loaded, total].map((bytes) => Math.ceil(bytes / 1e6));
      $("ready").textContent = words().of("loading", { done, total: all });
    });
  } catch {
    $("ready").textContent = words().of("unable");
    return undefined;
  }
  try {
    return await Kind.begun();
  } catch (refused) {
    const reason = words().of(`refused.${refused.reason ?? "failed"}`);
    $("ready").textContent = words().of("broken", { reason });
    return undefined;
  }
}

// Whether a card is as its publisher signed it, and what the model's owner allows: the browser's
// side of consilium.governance.model_permits. Whose key to believe, people settle by six words.

const CONSONANTS = "bdfghjklmnprstvz";
const VOWELS = "aiou";
const BYTES = new TextEncoder();

/** JSON after RFC 8785, of what JSON.parse gave. */
export function canonical(value) {
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  const names = Object.keys(value).sort();
  return `{${names.map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`).join(",")}}`;
}

/** SHA-256 of texts and bytes under a domain tag, as consilium.wire.digest. */
async function digest(...parts) {
  const pieces = [BYTES.encode("consilium/v1/")];
  for (const part of parts) {
    const bytes = typeof part === "string" ? BYTES.encode(part) : part;
    const head = new DataView(new ArrayBuffer(9));
    head.setUint8(0, "b".charCodeAt(0));
    head.setBigUint64(1, BigInt(bytes.length));
    pieces.push(new Uint8Array(head.buffer), bytes);
  }
  const whole = new Uint8Array(await new Blob(pieces).arrayBuffer());
  return new Uint8Array(await crypto.subtle.digest("SHA-256", whole));
}

function unhex(text, size) {
  if (!new RegExp(`^[0-9a-f]{${2 * size}}$`).test(text)) throw new Error("no hexadecimal");
  return Uint8Array.from(text.match(/../g), (pair) => parseInt(pair, 16));
}

/** Six words of a publisher's key, as an office and `consilium model verify` say them. */
export async function keyWords({ name, key }) {
  const found = await digest("office key", name, unhex(key, 32));
  const word = (k) => {
    const value = (found[2 * k] << 8) | found[2 * k + 1];
    const letter = (letters, shift) => letters[(value >> shift) & (letters.length - 1)];
    return [
      letter(CONSONANTS, 12),
      letter(VOWELS, 10),
      letter(CONSONANTS, 6),
      letter(VOWELS, 4),
      letter(CONSONANTS, 0),
    ].join("");
  };
  return Array.from({ length: 6 }, (_, k) => word(k)).join(" ");
}

async function signed({ signature, ...rest }) {
  const key = await crypto.subtle.importKey(
    "raw",
    unhex(rest.publisher.key, 32),
    "Ed25519",
    false,
    ["verify"],
  );
  const text = await digest("signed document", BYTES.encode(canonical(rest)));
  return crypto.subtle.verify("Ed25519", key, unhex(signature, 64), text);
}

function promises({ permit, privacy }) {
  if (permit.epsilon === null) return true;
  const found = privacy.guarantees.map((one) => one.epsilon);
  return privacy.private && found.length > 0 && Math.max(...found) <= permit.epsilon;
}

/**
 * What can be said of a card: "signed", "forged", or "unsupported" where the browser has no
 * Ed25519; with the words of who signed it and of the model's owner. Never throws.
 */
export async function verifyCard(card) {
  try {
    const facts = { permit: card.permit, privacy: card.privacy ?? card.about.privacy };
    const who = {
      name: card.publisher.name,
      words: await keyWords(card.publisher),
      owner: {
        name: card.permit.publisher.name,
        words: await keyWords(card.permit.publisher),
      },
    };
    const whole = (await signed(card)) && (await signed(card.permit)) && promises(facts);
    return { state: whole ? "signed" : "forged", ...who };
  } catch (error) {
    return { state: error.name === "NotSupportedError" ? "unsupported" : "forged" };
  }
}

/** Whether the owner allows "device" or "encrypted-inference"; the rule of the Python side. */
export function allows({ permit }, use) {
  const { allow_device, allow_remote_inference, encrypted_only } = permit.permissions;
  if (use === "encrypted-inference")
    return encrypted_only || allow_remote_inference || allow_device;
  return use === "device" && allow_device && !encrypted_only && permit.epsilon !== null;
}

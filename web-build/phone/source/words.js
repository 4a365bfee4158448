// The page's words in two languages; which one is shown is kept nowhere.

import de from "./words/de.json";
import en from "./words/en.json";

export class Words {
  /** `more` are a mode's own words by language; they come before those of all modes. */
  constructor(language, more = {}) {
    const found = { en, de };
    this.language = language in found ? language : "en";
    this.dictionary = { ...found[this.language], ...more[this.language] };
  }

  /** The words of `key` with {names} replaced; a key that is not there is a mistake. */
  of(key, values = {}) {
    const words = this.dictionary[key];
    if (words === undefined) throw new Error(`no words for ${key}`);
    return words.replace(/\{(\w+)\}/g, (_, name) => values[name]);
  }

  list(key) {
    return this.dictionary[key];
  }

  has(key) {
    return key in this.dictionary;
  }

  class(name) {
    return this.dictionary.classes[name] ?? name;
  }
}

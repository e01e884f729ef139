// What the colours mean: classes to hide and show, or the range of a value.

import { fill, make, short, whole } from "./dom.js";
import { MISSING } from "./payload.js";

/** @typedef {import("./payload.js").Payload} Payload */

const MOST_CLASSES = 200;
const MISSING_TONE = 255;

/** The colour of each point as a place in the palette. @param {Payload} payload */
export function tonesOf({ n, codes, values, head }) {
  const tones = new Uint8Array(n);
  if (codes !== null) {
    const nColours = head.palette.light.classes.length;
    for (let at = 0; at < n; at++) tones[at] = codes[at] === MISSING ? MISSING_TONE : codes[at] % nColours;
  } else if (values !== null && head.labels?.kind === "values") {
    const { low, high } = head.labels;
    const reach = high - low || 1;
    for (let at = 0; at < n; at++) {
      const share = (values[at] - low) / reach;
      tones[at] = Number.isNaN(share) ? MISSING_TONE : Math.round(254 * Math.max(0, Math.min(1, share)));
    }
  }
  return tones;
}

/** The 256 colours of a theme, RGBA. @param {Payload["head"]} head @param {"light" | "dark"} theme */
export function paletteOf(head, theme) {
  const { classes, ramp, missing } = head.palette[theme];
  const colours = new Uint8Array(1024);
  const listed = head.labels?.kind === "values" ? spread(ramp, 255) : classes.map(rgb);
  for (let at = 0; at < 255; at++) colours.set([...listed[at % listed.length], 255], 4 * at);
  colours.set([...rgb(missing), 255], 4 * MISSING_TONE);
  return colours;
}

/** @param {string} hex @returns {number[]} */
export function rgb(hex) {
  return [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));
}

/** Colours between those of a ramp. @param {string[]} ramp @param {number} n */
function spread(ramp, n) {
  const known = ramp.map(rgb);
  return Array.from({ length: n }, (_, at) => {
    const place = (at / (n - 1)) * (known.length - 1);
    const below = Math.min(known.length - 2, Math.floor(place));
    return known[below].map((value, channel) => value + (place - below) * (known[below + 1][channel] - value));
  });
}

export class Legend {
  /**
   * @param {HTMLElement} section
   * @param {Payload} payload
   * @param {() => void} changed  after classes are hidden or shown
   */
  constructor(section, payload, changed) {
    this.section = section;
    this.payload = payload;
    this.changed = changed;
    /** @type {Set<number>} */
    this.hidden = new Set();
    this.counts = countsOf(payload);
    this.build("light");
  }

  /** @returns {((point: number) => boolean) | null} */
  get isShown() {
    const { codes } = this.payload;
    if (codes === null || this.hidden.size === 0) return null;
    return (point) => !this.hidden.has(codes[point]);
  }

  /** @param {"light" | "dark"} theme */
  build(theme) {
    this.theme = theme;
    const { labels, palette } = this.payload.head;
    if (labels === null) {
      this.section.hidden = true;
      return;
    }
    const title = make("h2", {}, labels.title || (labels.kind === "classes" ? "Labels" : "Value"));
    if (labels.kind === "values") fill(this.section, title, this.scale(labels, palette[theme].ramp));
    else fill(this.section, make("div", { class: "headline" }, title, this.showAll()), this.list(labels.names, palette[theme]));
  }

  showAll() {
    const all = make("button", { class: "quiet", type: "button", onclick: () => this.only(null) }, "Show all");
    all.hidden = this.hidden.size === 0;
    return all;
  }

  /** @param {string[]} names @param {{ classes: string[], missing: string }} colours */
  list(names, colours) {
    const present = [...this.counts.keys()].filter((code) => code !== MISSING).sort((one, other) => one - other);
    const kept = present.slice(0, MOST_CLASSES);
    if (this.counts.has(MISSING)) kept.push(MISSING);
    const list = make("ul", { class: "classes" });
    for (const code of kept) {
      const isMissing = code === MISSING;
      const swatch = make("i", {});
      swatch.style.background = isMissing ? colours.missing : colours.classes[code % colours.classes.length];
      const button = make(
        "button",
        {
          type: "button",
          "aria-pressed": !this.hidden.has(code),
          title: "Click to hide or show, double-click for this one alone",
          onclick: () => this.toggle(code),
          ondblclick: () => this.only(code),
        },
        swatch,
        make("span", { class: "name" }, isMissing ? "no label" : names[code]),
        make("span", { class: "count" }, whole(this.counts.get(code) ?? 0)),
      );
      list.append(make("li", {}, button));
    }
    if (present.length > MOST_CLASSES) list.append(make("li", { class: "note" }, `and ${whole(present.length - MOST_CLASSES)} more; search finds them`));
    return list;
  }

  /** @param {{ low: number, high: number }} labels @param {string[]} ramp */
  scale(labels, ramp) {
    const bar = make("div", { class: "ramp" });
    bar.style.background = `linear-gradient(to right, ${ramp.join(", ")})`;
    const ends = make("div", { class: "ends" }, make("span", {}, short(labels.low)), make("span", {}, short(labels.high)));
    return make("div", { class: "scale" }, this.histogram(labels), bar, ends);
  }

  /** @param {{ low: number, high: number }} labels */
  histogram({ low, high }) {
    const bins = new Uint32Array(40);
    for (const value of this.payload.values ?? []) {
      if (!Number.isNaN(value)) bins[Math.max(0, Math.min(39, Math.floor(((value - low) / (high - low || 1)) * 40)))]++;
    }
    const most = Math.max(1, ...bins);
    const bars = make("div", { class: "histogram", "aria-hidden": "true" });
    for (const count of bins) {
      const bar = make("i", {});
      bar.style.height = `${(100 * count) / most}%`;
      bars.append(bar);
    }
    return bars;
  }

  /** @param {number} code */
  toggle(code) {
    if (!this.hidden.delete(code)) this.hidden.add(code);
    this.refresh(code);
  }

  /** Shows one class alone, or all. @param {number | null} code */
  only(code) {
    this.hidden = new Set(code === null ? [] : [...this.counts.keys()].filter((other) => other !== code));
    this.refresh(code);
  }

  /** @param {number | null} code */
  refresh(code) {
    const buttons = [...this.section.querySelectorAll(".classes button")];
    const focused = buttons.findIndex((button) => button.matches(":focus"));
    this.build(this.theme ?? "light");
    if (focused >= 0 && code !== null) {
      const again = this.section.querySelectorAll(".classes button")[focused];
      if (again instanceof HTMLElement) again.focus();
    }
    this.changed();
  }
}

/** @param {Payload} payload @returns {Map<number, number>} */
function countsOf({ codes }) {
  const counts = new Map();
  if (codes === null) return counts;
  const all = new Uint32Array(MISSING + 1);
  for (const code of codes) all[code]++;
  all.forEach((count, code) => count > 0 && counts.set(code, count));
  return counts;
}

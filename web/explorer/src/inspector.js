// What lies under the cursor: the row of a point with its text, label, picture and numbers, and what
// the decoder makes of the place.

import { fill, make, short, whole } from "./dom.js";

const MOST_NUMBERS = 6;

/** @typedef {import("./stage.js").Place} Place */

export class Inspector {
  /** @param {HTMLElement} section @param {import("./app.js").App} app */
  constructor(section, app) {
    this.section = section;
    this.app = app;
    this.show(null, false);
  }

  /** @param {Place | null} place @param {boolean} isPinned */
  show(place, isPinned) {
    const { app } = this;
    if (place === null) {
      const hint = app.decode === null ? "Point at the map to see a row." : "Point at the map to see a row, or what any place decodes to.";
      fill(this.section, make("h2", {}, "Under the cursor"), make("p", { class: "note" }, hint));
      return;
    }
    const { point } = place;
    const title = point === null ? "Between the points" : `Row ${whole(app.rowOf(point))}`;
    const label = point === null ? "" : app.labelOf(point);
    const release = make("button", { class: "quiet", type: "button", onclick: () => app.release() }, "Release");
    const head = make("div", { class: "headline" }, make("h2", {}, title), label && this.chip(/** @type {number} */ (point), label), isPinned && release);
    const position = app.unitsOf(place.u, place.v);
    const decoded = app.decode === null ? null : app.decode(position);
    const text = point === null ? null : app.payload.texts?.[point];
    const own = point === null ? null : app.rowValues(point);
    const shown = own ?? decoded;
    const where = make("p", { class: "where" }, `x ${short(position[0])}   y ${short(position[1])}`);
    fill(
      this.section,
      head,
      ...(text ? [make("p", { class: "text" }, text)] : []),
      this.pictures(point, decoded),
      ...(shown && !app.pictures.isImage ? [this.numbers(shown, own === null)] : []),
      where,
    );
  }

  /** @param {number} point @param {string} text */
  chip(point, text) {
    const dot = make("i", {});
    dot.style.background = this.app.colourOf(point);
    return make("span", { class: "chip" }, dot, make("span", {}, text));
  }

  /** @param {number | null} point @param {ArrayLike<number> | null} decoded */
  pictures(point, decoded) {
    const { app } = this;
    const pair = make("div", { class: "pair" });
    const stored = point === null ? null : app.pictures.ofPoint(point);
    if (stored) pair.append(app.figure(stored, "this row"));
    if (decoded && app.pictures.isImage) pair.append(app.figure(app.pictures.ofRow(decoded), "decoded here"));
    return pair;
  }

  /** The columns that differ most from their means. @param {ArrayLike<number>} row @param {boolean} isDecoded */
  numbers(row, isDecoded) {
    const { app } = this;
    const { columns } = app.payload.head;
    const order = Array.from(row, (_, at) => at);
    if (row.length > MOST_NUMBERS) {
      order.sort((one, other) => Math.abs(app.pictures.score(row, other)) - Math.abs(app.pictures.score(row, one)));
    }
    const list = make("dl", { class: "numbers" });
    for (const at of order.slice(0, MOST_NUMBERS)) {
      const score = Math.max(-3, Math.min(3, app.pictures.score(row, at)));
      const bar = make("i", { class: score < 0 ? "fall" : "rise" });
      bar.style.width = `${(Math.abs(score) / 3) * 50}%`;
      bar.style.left = score < 0 ? `${50 - (Math.abs(score) / 3) * 50}%` : "50%";
      list.append(make("dt", {}, columns[at] ?? `column ${at}`), make("dd", {}, make("span", { class: "bar", "aria-hidden": "true" }, bar), make("b", {}, short(row[at]))));
    }
    const kind = isDecoded ? "decoded here" : "this row";
    const rest = row.length > MOST_NUMBERS ? `, the ${MOST_NUMBERS} most unusual of ${whole(row.length)} columns` : "";
    return make("div", {}, make("p", { class: "note" }, `${kind}${rest}`), list);
  }
}

// Points chosen by a lasso or by a search: how many, of which classes, a table and a file.

import { fill, make, short, whole } from "./dom.js";
import { MISSING } from "./payload.js";
import { toCsv } from "./table.js";

const MOST_LISTED = 200;

export class SelectionPanel {
  /** @param {HTMLElement} section @param {import("./app.js").App} app */
  constructor(section, app) {
    this.section = section;
    this.app = app;
    /** @type {number[]} */
    this.points = [];
    this.show([], "");
  }

  /** @param {number[]} points @param {string} origin  how they were chosen */
  show(points, origin) {
    this.points = points;
    const { app } = this;
    this.section.classList.toggle("empty", origin === "");
    if (origin === "") {
      fill(this.section, make("h2", {}, "Selection"), make("p", { class: "note" }, "Nothing is selected. Draw a lasso on the map, or search."));
      return;
    }
    const act = (/** @type {string} */ text, /** @type {() => void} */ onclick) => make("button", { class: "quiet", type: "button", onclick }, text);
    const head = make("div", { class: "headline" }, make("h2", {}, origin), make("span", { class: "count" }, `${whole(points.length)} of ${whole(app.payload.n)}`));
    const acts = make("div", { class: "acts" }, act("Zoom in", () => app.zoomTo(points)), act("Export CSV", () => this.download()), act("Clear", () => app.clearSelection()));
    fill(this.section, head, ...(points.length > 0 ? [this.composition(), acts, this.list()] : [make("p", { class: "note" }, "No point matches."), acts]));
  }

  /** A bar of the classes that are selected. */
  composition() {
    const { payload } = this.app;
    const { codes, head } = payload;
    const bar = make("div", { class: "composition" });
    if (codes === null || head.labels?.kind !== "classes") return bar;
    /** @type {Map<number, number>} */
    const counts = new Map();
    for (const point of this.points) counts.set(codes[point], (counts.get(codes[point]) ?? 0) + 1);
    const colours = head.palette[this.app.theme];
    for (const [code, count] of [...counts].sort((one, other) => other[1] - one[1])) {
      const name = code === MISSING ? "no label" : head.labels.names[code];
      const part = make("i", { title: `${name}: ${whole(count)}` });
      part.style.flexGrow = String(count);
      part.style.background = code === MISSING ? colours.missing : colours.classes[code % colours.classes.length];
      bar.append(part);
    }
    return bar;
  }

  list() {
    const { app } = this;
    const list = make("ul", { class: "neighbours" });
    for (const point of this.points.slice(0, MOST_LISTED)) {
      const picture = app.pictures.ofPoint(point);
      const text = app.payload.texts?.[point] ?? "";
      list.append(
        make(
          "li",
          {},
          make(
            "button",
            { type: "button", onclick: () => app.pinPoint(point) },
            picture && app.copyOf(picture),
            make("span", { class: "name" }, text || app.labelOf(point) || `row ${app.rowOf(point)}`),
            make("span", { class: "count" }, `row ${whole(app.rowOf(point))}`),
          ),
        ),
      );
    }
    if (this.points.length > MOST_LISTED) list.append(make("li", { class: "note" }, `and ${whole(this.points.length - MOST_LISTED)} more, all of them in the CSV file`));
    return list;
  }

  /** The selection as CSV: row number, label, text, position and the columns that the page carries. */
  csv() {
    const { app } = this;
    const { payload } = app;
    const { head, table, texts } = payload;
    const columns = table === null ? [] : head.columns;
    const labelName = head.labels === null ? [] : [head.labels.title || "label"];
    const names = ["row", ...labelName, ...(texts ? ["text"] : []), "x", "y", ...columns];
    const rows = this.points.map((point) => {
      const [x, y] = app.positionOf(point);
      const value = payload.values?.[point];
      const label = head.labels === null ? [] : [value ?? app.labelOf(point)];
      const own = columns.map((_, at) => Number(/** @type {Float32Array} */ (table)[point * columns.length + at].toPrecision(7)));
      return [app.rowOf(point), ...label, ...(texts ? [texts[point]] : []), Number(x.toPrecision(6)), Number(y.toPrecision(6)), ...own];
    });
    return toCsv(names, rows);
  }

  download() {
    const address = URL.createObjectURL(new Blob(["\ufeff", this.csv()], { type: "text/csv" }));
    const link = make("a", { href: address, download: "selection.csv" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }
}

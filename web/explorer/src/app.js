// The page: a map, and beside it what lies under the cursor, the legend, rows to place and a
// selection. Parts speak to each other through the methods of `App`.

import { fill, icon, make, whole } from "./dom.js";
import { Film } from "./film.js";
import { Inspector } from "./inspector.js";
import { Lattice } from "./lattice.js";
import { Legend, paletteOf, rgb, tonesOf } from "./legend.js";
import { evaluate } from "./network.js";
import { EDGE, MISSING } from "./payload.js";
import { Pictures } from "./picture.js";
import { PlacePanel, Placer } from "./placing.js";
import { Grid, regions } from "./points.js";
import { SelectionPanel } from "./selection.js";
import { Stage } from "./stage.js";

/** @typedef {import("./payload.js").Payload} Payload */
/** @typedef {import("./stage.js").Place} Place */

const STRIP = 11;
const MOST_REGIONS = 60;
/** Texts that one slice of a search reads before the page may answer again. */
const SLICE = 50_000;

export class App {
  /** @param {HTMLElement} root @param {Payload} payload */
  constructor(root, payload) {
    this.root = root;
    this.payload = payload;
    this.grid = new Grid(payload.xy);
    this.pictures = new Pictures(payload);
    this.placer = new Placer(payload);
    const { decoder } = payload;
    /** Row of a position in the units of `inverse_transform`, or null without a decoder. */
    this.decode = decoder === null ? null : (/** @type {ArrayLike<number>} */ position) => evaluate(decoder, position);
    /** @type {Place | null} */
    this.pinned = null;
    this.searched = 0;
    /** Called with the numbers of the selected rows. @type {(rows: number[]) => void} */
    this.selected = () => {};
    /** @type {"light" | "dark"} */
    this.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    const canvases = make("div", { class: "stage" });
    this.map = make("main", { class: "map" }, canvases);
    this.stage = new Stage(canvases, payload, this.grid, {
      hover: (place) => this.hover(place),
      tap: (place) => this.pin(place),
      lasso: (line) => this.select(this.grid.inside(line, this.legend.isShown ?? undefined), "Selection"),
      line: (from, to) => this.showStrip(from, to),
    });
    this.stage.painter.put("tone", tonesOf(payload));
    this.stage.names = this.regionNames();
    const sections = ["inspect", "selection", "place", "legend"].map((name) => make("section", { class: name, "aria-label": name }));
    const [inspect, selection, place, legend] = sections;
    this.legend = new Legend(legend, payload, () => this.filter());
    this.inspector = new Inspector(inspect, this);
    this.placing = new PlacePanel(place, this);
    this.selection = new SelectionPanel(selection, this);
    this.strip = make("div", { class: "strip", "aria-label": "Decoded along the line" });
    this.strip.hidden = true;
    const film = make("div", { class: "film" });
    film.hidden = true;
    this.map.append(this.strip, film, this.notes());
    this.film = payload.film.length > 1 && payload.head.film ? new Film(film, this.stage, payload.film, payload.head.film.steps) : null;
    this.search = this.searchField();
    this.tools = this.toolbar();
    fill(root, this.bar(), this.map, make("aside", {}, ...sections), this.tabs());
    this.setTheme(this.theme);
    this.setTool("pan");
    this.openTab("inspect");
    this.listen();
  }

  listen() {
    const { root } = this;
    root.addEventListener("keydown", (event) => this.key(event));
    root.addEventListener("dragover", (event) => event.preventDefault());
    root.addEventListener("drop", (event) => {
      event.preventDefault();
      this.placing.files([...(event.dataTransfer?.files ?? [])]);
      this.openTab("place");
    });
  }

  bar() {
    const { head, n } = this.payload;
    const count = head.n_rows > n ? `${whole(n)} of ${whole(head.n_rows)} points` : `${whole(n)} points`;
    return make("header", {}, make("h1", {}, head.title), make("span", { class: "count" }, count), this.search, this.tools);
  }

  searchField() {
    const field = make("input", {
      type: "search",
      placeholder: "Search   /",
      "aria-label": "Search texts, labels and row numbers",
      oninput: () => this.find(field.value),
      onkeydown: (/** @type {KeyboardEvent} */ event) => {
        if (event.key === "Enter") this.zoomTo(this.selection.points);
      },
    });
    return field;
  }

  toolbar() {
    const { head } = this.payload;
    const tool = (/** @type {string} */ name, /** @type {string} */ text, /** @type {() => void} */ act) =>
      make("button", { type: "button", class: "tool", "data-tool": name, "aria-label": text, title: text, onclick: act }, icon(name));
    return make(
      "div",
      { class: "tools", role: "toolbar", "aria-label": "Tools" },
      tool("pan", "Move the map (V)", () => this.setTool("pan")),
      tool("lasso", "Select with a lasso (L)", () => this.setTool("lasso")),
      this.decode && tool("line", "Decode along a line (S)", () => this.setTool("line")),
      this.decode && tool("lattice", "Decode everywhere (G)", () => this.toggleLattice()),
      head.labels?.kind === "classes" && tool("names", "Names on the map (N)", () => this.toggleNames()),
      tool("reset", "Show all (0)", () => this.fit()),
      tool("theme", "Light or dark (D)", () => this.setTheme(this.theme === "dark" ? "light" : "dark")),
    );
  }

  tabs() {
    const tabs = make("nav", { class: "tabs", "aria-label": "Parts" });
    const names = { inspect: "Inspect", place: "Place", legend: "Legend", selection: "Selection" };
    for (const [name, text] of Object.entries(names)) {
      if (name === "legend" && this.payload.head.labels === null) continue;
      tabs.append(make("button", { type: "button", "data-tab": name, onclick: () => this.openTab(name) }, text));
    }
    return tabs;
  }

  notes() {
    const notes = make("div", { class: "notes" });
    for (const text of this.payload.head.notes) {
      const note = make("p", {}, text, make("button", { type: "button", class: "tool", "aria-label": "Close the note", onclick: () => note.remove() }, icon("close")));
      notes.append(note);
    }
    return notes;
  }

  regionNames() {
    const { codes, head, xy } = this.payload;
    const { labels } = head;
    if (codes === null || labels?.kind !== "classes" || labels.names.length > 2000) return [];
    return regions(xy, codes, labels.names.length)
      .slice(0, MOST_REGIONS)
      .map(({ code, u, v }) => ({ name: labels.names[code], u, v }));
  }

  // ---- what points are --------------------------------------------------------------------------

  /** The number of a point's row in the data. @param {number} point */
  rowOf(point) {
    return this.payload.rows === null ? point : this.payload.rows[point];
  }

  /** The point of a row, or null if it is not drawn. @param {number} row */
  pointOf(row) {
    const { rows, n } = this.payload;
    if (rows === null) return row < n ? row : null;
    let [below, above] = [0, n];
    while (below < above) {
      const middle = (below + above) >> 1;
      if (rows[middle] < row) below = middle + 1;
      else above = middle;
    }
    return rows[below] === row ? below : null;
  }

  /** @param {number} point @returns {string} */
  labelOf(point) {
    const { codes, values, head } = this.payload;
    if (codes !== null && head.labels?.kind === "classes") return codes[point] === MISSING ? "no label" : head.labels.names[codes[point]];
    if (values !== null) return Number.isNaN(values[point]) ? "no value" : String(Number(values[point].toPrecision(5)));
    return "";
  }

  /** @param {number} point */
  colourOf(point) {
    const at = 4 * tonesOf({ ...this.payload, n: point + 1, codes: this.payload.codes?.subarray(0, point + 1) ?? null })[point];
    return `rgb(${[...paletteOf(this.payload.head, this.theme).subarray(at, at + 3)].join()})`;
  }

  /** The row of a point, where the page carries rows. @param {number} point */
  rowValues(point) {
    const { table, head } = this.payload;
    return table === null ? null : table.subarray(point * head.n_features, (point + 1) * head.n_features);
  }

  /** @param {number} point @returns {[number, number]} */
  positionOf(point) {
    return this.unitsOf(this.payload.xy[2 * point] / EDGE, this.payload.xy[2 * point + 1] / EDGE);
  }

  /** A place of the map in the units of `transform`. @param {number} u @param {number} v @returns {[number, number]} */
  unitsOf(u, v) {
    const { low, span } = this.payload.head.frame;
    return [low[0] + u * span, low[1] + v * span];
  }

  /** @param {OffscreenCanvas} picture @param {string} caption */
  figure(picture, caption) {
    return make("figure", {}, this.copyOf(picture), make("figcaption", {}, caption));
  }

  /** @param {OffscreenCanvas} picture */
  copyOf(picture) {
    const canvas = make("canvas", { class: "picture", width: picture.width, height: picture.height });
    canvas.getContext("2d")?.drawImage(picture, 0, 0);
    return canvas;
  }

  // ---- acts -------------------------------------------------------------------------------------

  /** @param {Place | null} place */
  hover(place) {
    if (this.pinned !== null || this.stage.isPlaying) return;
    this.stage.setCursor(place);
    this.inspector.show(place, false);
  }

  /** @param {Place} place */
  pin(place) {
    if (this.pinned !== null && place.point === this.pinned.point) return this.release();
    this.pinned = place;
    this.stage.isPinned = true;
    this.stage.setCursor(place);
    this.inspector.show(place, true);
    this.openTab("inspect");
  }

  release() {
    this.pinned = null;
    this.stage.isPinned = false;
    this.hover(null);
  }

  /** @param {number} point */
  pinPoint(point) {
    const [u, v] = [this.payload.xy[2 * point] / EDGE, this.payload.xy[2 * point + 1] / EDGE];
    this.pinned = null;
    this.pin({ u, v, point });
    const [left, bottom, right, top] = this.stage.camera.box;
    if (u < left || u > right || v < bottom || v > top) this.goTo(u, v);
  }

  /** @param {number} u @param {number} v */
  goTo(u, v) {
    const { camera } = this.stage;
    camera.u = u;
    camera.v = v;
    if (camera.zoom < 3) camera.zoomBy(3 / camera.zoom);
    this.stage.moved();
  }

  /** @param {number[]} points */
  zoomTo(points) {
    if (points.length === 0) return;
    const box = [1, 1, 0, 0];
    for (const point of points) {
      const [u, v] = [this.payload.xy[2 * point] / EDGE, this.payload.xy[2 * point + 1] / EDGE];
      box[0] = Math.min(box[0], u);
      box[1] = Math.min(box[1], v);
      box[2] = Math.max(box[2], u);
      box[3] = Math.max(box[3], v);
    }
    this.stage.camera.show(box);
    this.stage.moved();
  }

  fit() {
    this.stage.camera.fit();
    this.stage.moved();
  }

  filter() {
    this.stage.isShown = this.legend.isShown;
    this.stage.painter.setShown(this.legend.isShown);
    this.stage.redraw();
  }

  /** @param {number[]} points @param {string} origin */
  select(points, origin) {
    const chosen = new Uint8Array(this.payload.n);
    for (const point of points) chosen[point] = 1;
    this.stage.painter.put("chosen", chosen);
    this.stage.hasSelection = origin !== "";
    this.selection.show(points, origin);
    this.selected(points.map((point) => this.rowOf(point)));
    this.stage.redraw();
    if (origin !== "") this.openTab("selection");
  }

  clearSelection() {
    this.search.value = "";
    this.searched++;
    this.select([], "");
    if (this.root.dataset.tab === "selection") this.openTab("inspect");
  }

  /** Selects what contains a text; a number after # is that of a row. @param {string} text */
  async find(text) {
    const wanted = text.trim().toLowerCase();
    const mine = ++this.searched;
    if (wanted === "") return this.clearSelection();
    await new Promise((resolve) => setTimeout(resolve, 90));
    const { codes, texts, head, n } = this.payload;
    const names = head.labels?.kind === "classes" ? head.labels.names.map((name) => name.toLowerCase().includes(wanted)) : [];
    const row = /^#\d+$/.test(wanted) ? this.pointOf(Number(wanted.slice(1))) : null;
    /** @type {number[]} */
    const found = [];
    for (let at = 0; at < n; at++) {
      if (mine !== this.searched) return undefined;
      const isNamed = codes !== null && codes[at] !== MISSING && names[codes[at]];
      if (isNamed || at === row || texts?.[at].toLowerCase().includes(wanted)) found.push(at);
      if (at % SLICE === SLICE - 1) await new Promise((resolve) => setTimeout(resolve));
    }
    if (mine === this.searched) this.select(found, `Found “${text.trim().slice(0, 40)}”`);
    return undefined;
  }

  /** Decodes along a line. @param {number[]} from @param {number[]} to */
  showStrip(from, to) {
    const { decode } = this;
    if (decode === null) return;
    const children = Array.from({ length: STRIP }, (_, at) => {
      const share = at / (STRIP - 1);
      const [u, v] = [0, 1].map((axis) => from[axis] + share * (to[axis] - from[axis]));
      return this.copyOf(this.pictures.ofRow(decode(this.unitsOf(u, v))));
    });
    const close = make("button", { type: "button", class: "tool", "aria-label": "Close the strip", onclick: () => this.closeStrip() }, icon("close"));
    fill(this.strip, ...children, close);
    this.strip.hidden = false;
  }

  closeStrip() {
    this.strip.hidden = true;
    this.stage.segment = [];
    this.stage.redraw();
  }

  toggleLattice() {
    const { decode, stage, grid } = this;
    if (decode === null) return;
    const isOccupied = (/** @type {number[]} */ box) => {
      let found = false;
      grid.within(box, (point) => {
        const [u, v] = [this.payload.xy[2 * point] / EDGE, this.payload.xy[2 * point + 1] / EDGE];
        found ||= u >= box[0] && u < box[2] && v >= box[1] && v < box[3];
      });
      return found;
    };
    const rowAt = (/** @type {number[]} */ [u, v]) => decode(this.unitsOf(u, v));
    stage.lattice = stage.lattice ? null : new Lattice(rowAt, (row) => this.pictures.ofRow(row, true), isOccupied, null);
    this.showCards();
    this.showPressed();
    stage.redraw();
  }

  /** Profiles stand on cards, or neighbours would run into each other. */
  showCards() {
    const { lattice } = this.stage;
    const wash = getComputedStyle(this.root).getPropertyValue("--wash").trim();
    if (lattice && !this.pictures.isImage) lattice.card = `${wash}d0`;
  }

  toggleNames() {
    this.stage.showsNames = !this.stage.showsNames;
    this.showPressed();
    this.stage.redraw();
  }

  /** @param {import("./stage.js").Tool} tool */
  setTool(tool) {
    if (tool === "line" && this.decode === null) return;
    this.stage.tool = tool;
    this.map.dataset.tool = tool;
    this.showPressed();
  }

  showPressed() {
    const { tool, lattice, showsNames } = this.stage;
    /** @type {Record<string, boolean>} */
    const pressed = { pan: tool === "pan", lasso: tool === "lasso", line: tool === "line", lattice: lattice !== null, names: showsNames };
    for (const button of this.tools.querySelectorAll("button")) {
      const name = button.dataset.tool ?? "";
      if (name in pressed) button.setAttribute("aria-pressed", String(pressed[name]));
    }
  }

  /** @param {"light" | "dark"} theme */
  setTheme(theme) {
    const { root, stage, payload } = this;
    this.theme = theme;
    root.dataset.theme = theme;
    const style = getComputedStyle(root);
    const colour = (/** @type {string} */ name) => style.getPropertyValue(`--${name}`).trim();
    stage.colours = { ink: colour("ink"), paper: colour("paper"), accent: colour("accent") };
    this.pictures.colours = { ink: rgb(colour("ink")), paper: rgb(colour("paper")), rise: rgb(colour("rise")), fall: rgb(colour("fall")) };
    stage.painter.setPalette(paletteOf(payload.head, theme));
    stage.lattice?.kept.clear();
    this.showCards();
    this.legend.build(theme);
    stage.redraw();
  }

  /** @param {string} name */
  openTab(name) {
    this.root.dataset.tab = name;
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const isTyping = event.target instanceof HTMLInputElement || event.target instanceof HTMLTextAreaElement;
    if (event.key === "Escape") {
      this.clearSelection();
      this.closeStrip();
      this.setTool("pan");
      if (this.pinned) this.release();
      if (isTyping) /** @type {HTMLElement} */ (event.target).blur();
      return;
    }
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    /** @type {Record<string, () => void>} */
    const keys = {
      "/": () => this.search.focus(),
      v: () => this.setTool("pan"),
      l: () => this.setTool("lasso"),
      s: () => this.setTool("line"),
      g: () => this.toggleLattice(),
      n: () => this.toggleNames(),
      d: () => this.setTheme(this.theme === "dark" ? "light" : "dark"),
      0: () => this.fit(),
      p: () => this.film?.toggle(),
    };
    const act = keys[event.key.toLowerCase()];
    if (act === undefined) return;
    event.preventDefault();
    act();
  }
}

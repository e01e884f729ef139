// The map itself: points below, and above them everything that follows the view: decoded lattice,
// names of regions, the point under the cursor, placed rows, lines. Mouse, pen, touch and keyboard
// come in here and leave as places on the map.

import { Camera } from "./camera.js";
import { make } from "./dom.js";
import { Painter, PlainPainter } from "./paint.js";
import { EDGE } from "./payload.js";

/** Distance in CSS pixels within which a point counts as under the cursor. */
const NEAR = 14;

/**
 * @typedef {{ u: number, v: number, point: number | null }} Place
 * @typedef {{
 *   hover(place: Place | null): void, tap(place: Place): void,
 *   lasso(line: number[][]): void, line(from: number[], to: number[]): void,
 * }} Listener
 * @typedef {"pan" | "lasso" | "line"} Tool
 */

export class Stage {
  /**
   * @param {HTMLElement} host
   * @param {import("./payload.js").Payload} payload
   * @param {import("./points.js").Grid} grid
   * @param {Listener} listener
   */
  constructor(host, payload, grid, listener) {
    this.host = host;
    this.payload = payload;
    this.grid = grid;
    this.listener = listener;
    this.camera = new Camera();
    const points = make("canvas", { class: "points" });
    this.overlay = make("canvas", {
      class: "overlay",
      tabindex: 0,
      role: "application",
      "aria-label": `Map of ${payload.n} points. Arrow keys move, plus and minus zoom, 0 shows all.`,
    });
    host.append(points, this.overlay);
    this.painter = painterOf(points, payload.n);
    this.points = this.painter.canvas;
    this.painter.put("from", payload.xy);
    this.painter.put("to", payload.xy);
    /** @type {((point: number) => boolean) | null} */
    this.isShown = null;
    this.hasSelection = false;
    /** @type {Tool} */
    this.tool = "pan";
    /** @type {Place | null} */
    this.cursor = null;
    this.isPinned = false;
    this.isByKeys = false;
    /** @type {{ u: number, v: number, name: string }[]} */
    this.placed = [];
    /** @type {number[][]} */
    this.lasso = [];
    /** @type {number[][]} */
    this.segment = [];
    /** @type {{ name: string, u: number, v: number }[]} */
    this.names = [];
    this.showsNames = true;
    /** @type {import("./lattice.js").Lattice | null} */
    this.lattice = null;
    this.mix = 0;
    this.isPlaying = false;
    this.colours = { ink: "#000", paper: "#fff", accent: "#36c" };
    this.hasSize = false;
    this.isMoving = false;
    this.restTimer = 0;
    this.isAwaited = false;
    this.lastFrame = 0;
    listen(this);
    new ResizeObserver(() => this.resize()).observe(host);
    this.resize();
  }

  resize() {
    const { width, height } = this.host.getBoundingClientRect();
    if (width === 0 || height === 0) return;
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    for (const canvas of [this.points, this.overlay]) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    this.camera.resize(width, height);
    this.hasSize = true;
    this.paint();
    this.redraw();
  }

  /** Draws at the next frame. */
  redraw() {
    if (this.isAwaited) return;
    this.isAwaited = true;
    requestAnimationFrame((now) => {
      this.isAwaited = false;
      if (this.isMoving && this.lastFrame > 0) this.painter.learn(now - this.lastFrame);
      this.lastFrame = this.isMoving ? now : 0;
      this.paint();
    });
  }

  /** Draws after the view changed: a sample at once, all points when it rests. */
  moved() {
    this.isMoving = true;
    clearTimeout(this.restTimer);
    this.restTimer = window.setTimeout(() => {
      this.isMoving = false;
      this.redraw();
    }, 140);
    this.redraw();
  }

  paint() {
    // Before the map has a size, points would be as large as the canvas, which takes minutes.
    if (!this.hasSize) return;
    this.painter.draw(this.camera, this.style(), this.isMoving);
    if (this.paintOverlay()) this.redraw();
  }

  style() {
    const { n } = this.payload;
    const zoom = Math.max(1, this.camera.zoom);
    const room = Math.min(1, Math.max(0.6, Math.min(this.camera.width, this.camera.height) / 700));
    const size = Math.min(13, Math.max(1.5, (165 * room) / n ** 0.45) * zoom ** 0.4);
    const dim = this.lattice !== null && !this.isPlaying ? 0.3 : 1;
    const opacity = Math.min(0.92, (1.32 - 0.155 * Math.log10(n + 1)) * zoom ** 0.3) * dim;
    return { size, opacity, hasSelection: this.hasSelection, mix: this.mix };
  }

  /** @returns {boolean} whether there is more to draw */
  paintOverlay() {
    const context = /** @type {CanvasRenderingContext2D} */ (this.overlay.getContext("2d"));
    const ratio = this.overlay.width / this.camera.width;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.camera.width, this.camera.height);
    if (this.isPlaying) return false;
    const isUnfinished = this.lattice !== null && this.lattice.draw(context, this.camera);
    if (this.showsNames && this.lattice === null) this.paintNames(context);
    this.paintSegment(context);
    this.paintCursor(context);
    for (const { u, v, name } of this.placed) this.paintPlaced(context, u, v, name);
    this.paintLasso(context);
    return isUnfinished;
  }

  /** @param {CanvasRenderingContext2D} context */
  paintNames(context) {
    context.font = "600 12.5px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    /** @type {number[][]} */
    const taken = [];
    for (const { name, u, v } of this.names) {
      const [x, y] = this.camera.toScreen(u, v);
      const text = name.length > 28 ? `${name.slice(0, 27)}…` : name;
      const half = context.measureText(text).width / 2 + 5;
      const box = [x - half, y - 10, x + half, y + 10];
      const isOut = box[0] < 0 || box[2] > this.camera.width || box[1] < 0 || box[3] > this.camera.height;
      if (isOut || taken.some((other) => overlaps(box, other))) continue;
      taken.push(box);
      context.lineWidth = 4;
      context.strokeStyle = this.colours.paper;
      context.strokeText(text, x, y);
      context.fillStyle = this.colours.ink;
      context.fillText(text, x, y);
    }
  }

  /** @param {CanvasRenderingContext2D} context */
  paintCursor(context) {
    if (this.cursor === null) return;
    const { point } = this.cursor;
    const [x, y] = point === null ? this.camera.toScreen(this.cursor.u, this.cursor.v) : this.screenOf(point);
    context.lineWidth = this.isPinned ? 2.5 : 1.5;
    context.strokeStyle = this.colours.ink;
    context.beginPath();
    if (point === null) {
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + 4 * dx, y + 4 * dy);
        context.lineTo(x + 10 * dx, y + 10 * dy);
      }
    } else context.arc(x, y, this.style().size / 2 + 3.5, 0, 7);
    context.stroke();
  }

  /** @param {CanvasRenderingContext2D} context @param {number} u @param {number} v @param {string} name */
  paintPlaced(context, u, v, name) {
    const [x, y] = this.camera.toScreen(u, v);
    context.beginPath();
    context.arc(x, y, name === "" ? 4 : 10, 0, 7);
    context.fillStyle = this.colours.accent;
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = this.colours.paper;
    context.stroke();
    context.font = "700 11px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillStyle = this.colours.paper;
    context.fillText(name, x, y + 0.5);
  }

  /** @param {CanvasRenderingContext2D} context */
  paintSegment(context) {
    if (this.segment.length < 2) return;
    const [[x1, y1], [x2, y2]] = this.segment.map(([u, v]) => this.camera.toScreen(u, v));
    for (const [width, colour] of /** @type {const} */ ([[4.5, this.colours.paper], [1.8, this.colours.accent]])) {
      context.lineWidth = width;
      context.strokeStyle = colour;
      context.beginPath();
      context.moveTo(x1, y1);
      context.lineTo(x2, y2);
      context.stroke();
    }
    context.fillStyle = this.colours.accent;
    for (const [x, y] of [[x1, y1], [x2, y2]]) {
      context.beginPath();
      context.arc(x, y, 4, 0, 7);
      context.fill();
    }
  }

  /** @param {CanvasRenderingContext2D} context */
  paintLasso(context) {
    if (this.lasso.length < 2) return;
    context.beginPath();
    for (const [u, v] of this.lasso) context.lineTo(...this.camera.toScreen(u, v));
    context.closePath();
    context.lineWidth = 1.5;
    context.setLineDash([5, 4]);
    context.strokeStyle = this.colours.accent;
    context.stroke();
    context.setLineDash([]);
    context.globalAlpha = 0.08;
    context.fillStyle = this.colours.accent;
    context.fill();
    context.globalAlpha = 1;
  }

  /** @param {number} point @returns {[number, number]} */
  screenOf(point) {
    const { xy } = this.payload;
    return this.camera.toScreen(xy[2 * point] / EDGE, xy[2 * point + 1] / EDGE);
  }

  /** What lies at a place of the screen. @param {number} x @param {number} y @returns {Place} */
  placeAt(x, y) {
    const [u, v] = this.camera.toMap(x, y);
    const shown = this.isShown ?? undefined;
    const [point] = this.grid.nearest(u, v, NEAR / this.camera.scale, 1, shown);
    return { u, v, point: point ?? null };
  }

  /** @param {Place | null} place */
  setCursor(place) {
    this.cursor = place;
    this.redraw();
  }
}

/** @param {HTMLCanvasElement} canvas @param {number} n */
function painterOf(canvas, n) {
  try {
    return new Painter(canvas, n);
  } catch {
    const other = /** @type {HTMLCanvasElement} */ (canvas.cloneNode());
    canvas.replaceWith(other);
    return new PlainPainter(other, n);
  }
}

/** @param {number[]} one @param {number[]} other */
function overlaps(one, other) {
  return one[0] < other[2] && other[0] < one[2] && one[1] < other[3] && other[1] < one[3];
}

/** Pointer, wheel and keys. @param {Stage} stage */
function listen(stage) {
  const { overlay, camera } = stage;
  /** @type {Map<number, number[]>} */
  const fingers = new Map();
  let travelled = 0;
  const placeOf = (/** @type {MouseEvent} */ event) => {
    const box = overlay.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  overlay.addEventListener("pointerdown", (event) => {
    overlay.setPointerCapture(event.pointerId);
    const [x, y] = placeOf(event);
    fingers.set(event.pointerId, [x, y]);
    travelled = 0;
    stage.isByKeys = false;
    if (fingers.size > 1) stage.lasso = [];
    else if (stage.tool === "lasso" || event.shiftKey) stage.lasso = [camera.toMap(x, y)];
    else if (stage.tool === "line") stage.segment = [camera.toMap(x, y), camera.toMap(x, y)];
  });

  overlay.addEventListener("pointermove", (event) => {
    const [x, y] = placeOf(event);
    const before = fingers.get(event.pointerId);
    if (before === undefined) {
      if (event.pointerType !== "touch") stage.listener.hover(stage.placeAt(x, y));
      return;
    }
    travelled += Math.hypot(x - before[0], y - before[1]);
    if (fingers.size === 2) pinch(camera, fingers, event.pointerId, [x, y]);
    else if (stage.lasso.length > 0) stage.lasso.push(camera.toMap(x, y));
    else if (stage.tool === "line") stage.segment[1] = camera.toMap(x, y);
    else camera.pan(x - before[0], y - before[1]);
    fingers.set(event.pointerId, [x, y]);
    if (stage.tool === "line" && fingers.size === 1) {
      stage.listener.line(stage.segment[0], stage.segment[1]);
      stage.redraw();
    } else if (stage.lasso.length > 0) stage.redraw();
    else stage.moved();
  });

  const end = (/** @type {PointerEvent} */ event) => {
    if (!fingers.delete(event.pointerId)) return;
    const { lasso } = stage;
    stage.lasso = [];
    if (travelled < 5) {
      if (stage.tool === "line") stage.segment = [];
      stage.listener.tap(stage.placeAt(...pair(placeOf(event))));
    } else if (lasso.length > 2) stage.listener.lasso(lasso);
    stage.redraw();
  };
  overlay.addEventListener("pointerup", end);
  overlay.addEventListener("pointercancel", end);
  overlay.addEventListener("pointerleave", () => {
    if (fingers.size === 0 && !stage.isByKeys) stage.listener.hover(null);
  });
  overlay.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const lines = event.deltaMode === 1 ? 18 : 1;
      camera.zoomBy(Math.exp(-event.deltaY * lines * 0.0016), ...pair(placeOf(event)));
      stage.moved();
    },
    { passive: false },
  );
  overlay.addEventListener("dblclick", (event) => {
    camera.zoomBy(event.shiftKey ? 0.5 : 2, ...pair(placeOf(event)));
    stage.moved();
  });
  overlay.addEventListener("keydown", (event) => {
    const step = 0.12 * Math.min(camera.width, camera.height);
    /** @type {Record<string, () => void>} */
    const keys = {
      ArrowLeft: () => camera.pan(step, 0),
      ArrowRight: () => camera.pan(-step, 0),
      ArrowUp: () => camera.pan(0, step),
      ArrowDown: () => camera.pan(0, -step),
      "+": () => camera.zoomBy(1.4),
      "=": () => camera.zoomBy(1.4),
      "-": () => camera.zoomBy(1 / 1.4),
      0: () => camera.fit(),
    };
    const act = keys[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
    stage.isByKeys = true;
    stage.listener.hover(stage.placeAt(camera.width / 2, camera.height / 2));
    stage.moved();
  });
}

/** @param {number[]} place @returns {[number, number]} */
function pair([x, y]) {
  return [x, y];
}

/**
 * Zooms by the distance of two fingers and moves by their middle.
 * @param {Camera} camera
 * @param {Map<number, number[]>} fingers  before the move
 * @param {number} moving
 * @param {number[]} to
 */
function pinch(camera, fingers, moving, to) {
  const from = /** @type {number[]} */ (fingers.get(moving));
  const [[, still]] = [...fingers].filter(([finger]) => finger !== moving);
  const before = Math.hypot(from[0] - still[0], from[1] - still[1]);
  const after = Math.hypot(to[0] - still[0], to[1] - still[1]);
  camera.pan((to[0] - from[0]) / 2, (to[1] - from[1]) / 2);
  if (before > 0) camera.zoomBy(after / before, (to[0] + still[0]) / 2, (to[1] + still[1]) / 2);
}

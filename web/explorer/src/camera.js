// The part of the map that is on the screen. Map coordinates are those of the square [0, 1]², with
// v upwards; screen coordinates are CSS pixels from the upper left corner.

const PADDING = 0.06;
/** Screen pixels to which the whole square may grow. */
const LARGEST = 4e6;

export class Camera {
  constructor() {
    this.u = 0.5;
    this.v = 0.5;
    this.width = 1;
    this.height = 1;
    /** CSS pixels per unit of the map. */
    this.scale = 1;
  }

  /** @param {number} width @param {number} height */
  resize(width, height) {
    const wasFitted = this.isFitted();
    this.width = width;
    this.height = height;
    if (wasFitted) this.fit();
  }

  get fitted() {
    return Math.min(this.width, this.height) * (1 - 2 * PADDING);
  }

  isFitted() {
    return this.scale === this.fitted || this.scale === 1;
  }

  /** How far the view is zoomed in; 1 shows the whole map. */
  get zoom() {
    return this.scale / this.fitted;
  }

  fit() {
    this.u = 0.5;
    this.v = 0.5;
    this.scale = this.fitted;
  }

  /** @param {number} x @param {number} y @returns {[number, number]} */
  toMap(x, y) {
    return [this.u + (x - this.width / 2) / this.scale, this.v - (y - this.height / 2) / this.scale];
  }

  /** @param {number} u @param {number} v @returns {[number, number]} */
  toScreen(u, v) {
    return [(u - this.u) * this.scale + this.width / 2, (this.v - v) * this.scale + this.height / 2];
  }

  /** @param {number} dx @param {number} dy  CSS pixels by which the content moves */
  pan(dx, dy) {
    this.u = clamp(this.u - dx / this.scale, -0.5, 1.5);
    this.v = clamp(this.v + dy / this.scale, -0.5, 1.5);
  }

  /**
   * Zooms, and keeps what is under a place of the screen there.
   * @param {number} factor
   * @param {number} [x]
   * @param {number} [y]
   */
  zoomBy(factor, x = this.width / 2, y = this.height / 2) {
    const [u, v] = this.toMap(x, y);
    this.scale = clamp(this.scale * factor, this.fitted * 0.5, LARGEST);
    const [nextU, nextV] = this.toMap(x, y);
    this.u += u - nextU;
    this.v += v - nextV;
  }

  /**
   * Shows a rectangle of the map with some space around it.
   * @param {number[]} box  left, bottom, right, top
   */
  show([left, bottom, right, top]) {
    this.u = (left + right) / 2;
    this.v = (bottom + top) / 2;
    const across = Math.max(right - left, 0.02) * 1.6;
    const up = Math.max(top - bottom, 0.02) * 1.6;
    this.scale = clamp(Math.min(this.width / across, this.height / up), this.fitted, LARGEST);
  }

  /** The rectangle of the map that is on the screen: left, bottom, right, top. */
  get box() {
    const [left, top] = this.toMap(0, 0);
    const [right, bottom] = this.toMap(this.width, this.height);
    return [left, bottom, right, top];
  }
}

/** @param {number} value @param {number} low @param {number} high */
export function clamp(value, low, high) {
  return Math.max(low, Math.min(high, value));
}

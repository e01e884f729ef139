// Small pictures of rows: pixels of images, and a profile of bars for all other rows.

/** @typedef {import("./payload.js").Payload} Payload */

const MOST_BARS = 30;
/** Height of a profile in pixels. */
const SIDE = 60;
/** Standard deviations that fill it. */
const MOST_SCORE = 2.5;

/** @typedef {{ ink: number[], paper: number[], rise: number[], fall: number[] }} Colours */

/** What to do with rows of one payload. */
export class Pictures {
  /** @param {Payload} payload */
  constructor(payload) {
    this.image = payload.head.image;
    this.moments = payload.moments;
    this.payload = payload;
    /** @type {Colours} */
    this.colours = { ink: [0, 0, 0], paper: [255, 255, 255], rise: [0, 0, 0], fall: [0, 0, 0] };
  }

  /** Whether rows are shown as pixels. */
  get isImage() {
    return this.image !== null;
  }

  /**
   * The picture of a row of the model's data.
   * @param {ArrayLike<number>} row
   * @param {boolean} [isSheer]  grey as opacity of the ink, to lie over points
   */
  ofRow(row, isSheer = false) {
    if (this.image === null) return this.profile(row);
    const { shape, low, high, ink } = this.image;
    const level = (/** @type {number} */ at) => (row[at] - low) / (high - low || 1);
    return this.pixels(shape, level, isSheer, ink);
  }

  /** The stored picture of a point, or null. @param {number} point */
  ofPoint(point) {
    const { tiles, head } = this.payload;
    if (tiles === null || head.tiles === null) return null;
    const { shape } = head.tiles;
    const start = point * shape[0] * shape[1] * shape[2];
    return this.pixels(shape, (at) => tiles[start + at] / 255, false, "high");
  }

  /**
   * @param {number[]} shape  height, width, channels
   * @param {(at: number) => number} level  0 to 1
   * @param {boolean} isSheer
   * @param {"high" | "low"} ink
   */
  pixels([height, width, depth], level, isSheer, ink) {
    const canvas = new OffscreenCanvas(width, height);
    const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
    const picture = context.createImageData(width, height);
    const { ink: dark } = this.colours;
    for (let at = 0; at < width * height; at++) {
      const share = Math.max(0, Math.min(1, level(at * depth)));
      if (isSheer && depth === 1) {
        picture.data.set([...dark, 255 * (ink === "high" ? share : 1 - share)], 4 * at);
      } else {
        for (let channel = 0; channel < 3; channel++) {
          const value = level(at * depth + Math.min(channel, depth - 1));
          picture.data[4 * at + channel] = 255 * Math.max(0, Math.min(1, value));
        }
        picture.data[4 * at + 3] = 255;
      }
    }
    context.putImageData(picture, 0, 0);
    return canvas;
  }

  /** Bars of the standard scores of a row's columns. @param {ArrayLike<number>} row */
  profile(row) {
    const bars = Math.min(MOST_BARS, row.length);
    const wide = Math.max(2, Math.floor(SIDE / bars));
    const canvas = new OffscreenCanvas(bars * wide, SIDE);
    const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
    for (let bar = 0; bar < bars; bar++) {
      const from = Math.floor((bar * row.length) / bars);
      const to = Math.max(from + 1, Math.floor(((bar + 1) * row.length) / bars));
      let sum = 0;
      for (let at = from; at < to; at++) sum += this.score(row, at);
      const score = Math.max(-MOST_SCORE, Math.min(MOST_SCORE, sum / (to - from)));
      const tall = Math.max(1, (Math.abs(score) / MOST_SCORE) * (SIDE / 2 - 1));
      context.fillStyle = `rgb(${(score >= 0 ? this.colours.rise : this.colours.fall).join()})`;
      context.fillRect(bar * wide, score >= 0 ? SIDE / 2 - tall : SIDE / 2, wide - 1, tall);
    }
    return canvas;
  }

  /** By how many standard deviations a column differs from its mean. @param {ArrayLike<number>} row @param {number} at */
  score(row, at) {
    if (this.moments === null) return row[at];
    const deviation = this.moments[row.length + at];
    return deviation > 0 ? (row[at] - this.moments[at]) / deviation : 0;
  }
}

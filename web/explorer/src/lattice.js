// The map as decoded rows: one picture per cell of a lattice that refines as the view is zoomed.
// Cells are those of powers of two, so that a cell stays where it is while the view moves.

import { clamp } from "./camera.js";

/** Smallest width of a cell on the screen in CSS pixels; the next level starts at twice of it. */
const CELL = 26;
const MOST_KEPT = 6000;
/** Milliseconds of decoding per frame. */
const PER_FRAME = 10;

export class Lattice {
  /**
   * @param {(place: number[]) => ArrayLike<number>} decode
   * @param {(row: ArrayLike<number>) => OffscreenCanvas} picture
   * @param {(box: number[]) => boolean} isOccupied
   * @param {string | null} card  colour behind each picture
   */
  constructor(decode, picture, isOccupied, card) {
    this.decode = decode;
    this.picture = picture;
    this.isOccupied = isOccupied;
    this.card = card;
    /** @type {Map<string, OffscreenCanvas>} */
    this.kept = new Map();
  }

  /**
   * Draws what is known, decodes some of the rest, and returns whether there is more to decode.
   * @param {CanvasRenderingContext2D} context
   * @param {import("./camera.js").Camera} camera
   */
  draw(context, camera) {
    const { size, cells } = cellsOf(camera);
    const until = performance.now() + PER_FRAME;
    let isUnfinished = false;
    context.imageSmoothingEnabled = false;
    for (const [line, column] of cells) {
      const left = column * size;
      const bottom = line * size;
      if (!this.isOccupied([left, bottom, left + size, bottom + size])) continue;
      const key = `${size}/${line}/${column}`;
      let picture = this.kept.get(key);
      if (picture === undefined) {
        if (performance.now() > until) {
          isUnfinished = true;
          continue;
        }
        picture = this.picture(this.decode([left + size / 2, bottom + size / 2]));
        this.keep(key, picture);
      }
      const [x, y] = camera.toScreen(left, bottom + size);
      const side = size * camera.scale;
      const part = Math.min(1, picture.width / picture.height);
      const tall = (side * 0.94 * part * picture.height) / picture.width;
      if (this.card !== null) {
        context.fillStyle = this.card;
        context.beginPath();
        context.roundRect(x + 1.5, y + 1.5, side - 3, side - 3, 5);
        context.fill();
      }
      context.drawImage(picture, x + (side * (1 - 0.94 * part)) / 2, y + (side - tall) / 2, side * 0.94 * part, tall);
    }
    return isUnfinished;
  }

  /** @param {string} key @param {OffscreenCanvas} picture */
  keep(key, picture) {
    if (this.kept.size >= MOST_KEPT) this.kept.clear();
    this.kept.set(key, picture);
  }
}

/**
 * The cells of the lattice that are on the screen, as pairs of line and column.
 * @param {import("./camera.js").Camera} camera
 * @returns {{ size: number, cells: [number, number][] }}
 */
export function cellsOf(camera) {
  const size = 2 ** -Math.floor(Math.log2(camera.scale / CELL));
  const last = Math.ceil(1 / size) - 1;
  const [left, bottom, right, top] = camera.box.map((edge) => clamp(Math.floor(edge / size), 0, last));
  /** @type {[number, number][]} */
  const cells = [];
  for (let line = bottom; line <= top; line++) {
    for (let column = left; column <= right; column++) cells.push([line, column]);
  }
  return { size, cells };
}

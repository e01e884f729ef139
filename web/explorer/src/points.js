// Points on the square [0, 1] x [0, 1]: which one is nearest, which ones a line encloses, where a
// class lies. Coordinates are stored as whole numbers from 0 to 65535.

import { EDGE, MISSING } from "./payload.js";

/** A grid of cells over the square, each with the numbers of its points. */
export class Grid {
  /** @param {Uint16Array} xy */
  constructor(xy) {
    this.xy = xy;
    const n = xy.length / 2;
    this.side = Math.max(1, Math.min(1024, Math.round(Math.sqrt(n / 4))));
    this.starts = new Uint32Array(this.side * this.side + 1);
    this.members = new Uint32Array(n);
    const cells = new Uint32Array(n);
    for (let point = 0; point < n; point++) {
      cells[point] = this.cell(xy[2 * point] / EDGE, xy[2 * point + 1] / EDGE);
      this.starts[cells[point] + 1]++;
    }
    for (let cell = 0; cell < this.side * this.side; cell++) {
      this.starts[cell + 1] += this.starts[cell];
    }
    const next = this.starts.slice();
    for (let point = 0; point < n; point++) this.members[next[cells[point]]++] = point;
  }

  /** @param {number} u @param {number} v */
  cell(u, v) {
    return this.line(v) * this.side + this.line(u);
  }

  /** @param {number} coordinate */
  line(coordinate) {
    return Math.max(0, Math.min(this.side - 1, Math.floor(coordinate * this.side)));
  }

  /**
   * Calls a function with every point of a rectangle's cells; some lie a little outside.
   * @param {number[]} box  left, bottom, right, top
   * @param {(point: number) => void} visit
   */
  within([left, bottom, right, top], visit) {
    for (let line = this.line(bottom); line <= this.line(top); line++) {
      const from = this.starts[line * this.side + this.line(left)];
      const to = this.starts[line * this.side + this.line(right) + 1];
      for (let at = from; at < to; at++) visit(this.members[at]);
    }
  }

  /**
   * The points nearest to a place, nearest first.
   * @param {number} u
   * @param {number} v
   * @param {number} radius  farther points are left out
   * @param {number} most
   * @param {(point: number) => boolean} [isShown]
   * @returns {number[]}
   */
  nearest(u, v, radius, most, isShown) {
    /** @type {[number, number][]} */
    const found = [];
    this.within([u - radius, v - radius, u + radius, v + radius], (point) => {
      if (isShown && !isShown(point)) return;
      const dx = this.xy[2 * point] / EDGE - u;
      const dy = this.xy[2 * point + 1] / EDGE - v;
      const squared = dx * dx + dy * dy;
      if (squared > radius * radius) return;
      if (found.length === most && squared >= found[most - 1][0]) return;
      let at = found.length;
      while (at > 0 && found[at - 1][0] > squared) at--;
      found.splice(at, 0, [squared, point]);
      if (found.length > most) found.pop();
    });
    return found.map(([, point]) => point);
  }

  /**
   * The nearest points however far they are.
   * @param {number} u
   * @param {number} v
   * @param {number} most
   * @param {(point: number) => boolean} [isShown]
   */
  closest(u, v, most, isShown) {
    for (let radius = 2 / this.side; ; radius *= 2) {
      const found = this.nearest(u, v, radius, most, isShown);
      if (found.length >= most || radius > 4) return found;
    }
  }

  /**
   * The points inside a closed line, by the even-odd rule, in the order of their numbers.
   * @param {number[][]} line  corners (u, v)
   * @param {(point: number) => boolean} [isShown]
   */
  inside(line, isShown) {
    const us = line.map(([u]) => u);
    const vs = line.map(([, v]) => v);
    /** @type {number[]} */
    const found = [];
    const box = [Math.min(...us), Math.min(...vs), Math.max(...us), Math.max(...vs)];
    this.within(box, (point) => {
      const u = this.xy[2 * point] / EDGE;
      const v = this.xy[2 * point + 1] / EDGE;
      if (encloses(line, u, v) && (!isShown || isShown(point))) found.push(point);
    });
    return found.sort((one, other) => one - other);
  }
}

/** @param {number[][]} line @param {number} u @param {number} v */
function encloses(line, u, v) {
  let inside = false;
  for (let at = 0, before = line.length - 1; at < line.length; before = at++) {
    const [u1, v1] = line[at];
    const [u2, v2] = line[before];
    if (v1 > v !== v2 > v && u < ((u2 - u1) * (v - v1)) / (v2 - v1) + u1) inside = !inside;
  }
  return inside;
}

const CELLS = 48;

/**
 * Where the name of each class goes: the middle of its densest part.
 * @param {Uint16Array} xy
 * @param {Uint16Array} codes
 * @param {number} nClasses
 * @returns {{ code: number, count: number, u: number, v: number }[]}  largest class first
 */
export function regions(xy, codes, nClasses) {
  const counts = new Uint32Array(nClasses * CELLS * CELLS);
  const totals = new Uint32Array(nClasses);
  const cellOf = (/** @type {number} */ at) => {
    const column = Math.min(CELLS - 1, Math.floor((xy[2 * at] / EDGE) * CELLS));
    return Math.min(CELLS - 1, Math.floor((xy[2 * at + 1] / EDGE) * CELLS)) * CELLS + column;
  };
  for (let at = 0; at < codes.length; at++) {
    if (codes[at] === MISSING || codes[at] >= nClasses) continue;
    counts[codes[at] * CELLS * CELLS + cellOf(at)]++;
    totals[codes[at]]++;
  }
  const found = [];
  for (let code = 0; code < nClasses; code++) {
    if (totals[code] === 0) continue;
    const own = counts.subarray(code * CELLS * CELLS, (code + 1) * CELLS * CELLS);
    const { u, v } = densest(own);
    found.push({ code, count: totals[code], u, v });
  }
  return found.sort((one, other) => other.count - one.count);
}

/** @param {Uint32Array} counts */
function densest(counts) {
  let best = { weight: -1, u: 0.5, v: 0.5 };
  for (let line = 0; line < CELLS; line++) {
    for (let column = 0; column < CELLS; column++) {
      if (counts[line * CELLS + column] === 0) continue;
      let weight = 0;
      let u = 0;
      let v = 0;
      for (let down = Math.max(0, line - 2); down <= Math.min(CELLS - 1, line + 2); down++) {
        for (let right = Math.max(0, column - 2); right <= Math.min(CELLS - 1, column + 2); right++) {
          const count = counts[down * CELLS + right];
          weight += count;
          u += count * (right + 0.5);
          v += count * (down + 0.5);
        }
      }
      if (weight > best.weight) best = { weight, u: u / weight / CELLS, v: v / weight / CELLS };
    }
  }
  return best;
}

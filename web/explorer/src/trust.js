// How far a position can be trusted: how near the row is to known rows, compared with how near other
// known rows are. The comparison is a conformal p-value: about 5 in 100 rows that are like the known
// ones have a value below 0.05.

import { formed } from "./network.js";

/** @typedef {{ rows: Float32Array, numbers: Uint32Array, distances: Float32Array }} Reference */

/**
 * The known rows nearest to a row in the space of the data.
 * @param {Reference} reference  rows in their form, their numbers, and sorted usual distances
 * @param {ArrayLike<number>} row
 * @param {string} form
 * @param {number} most
 * @returns {{ number: number, distance: number }[]}
 */
export function nearestRows(reference, row, form, most) {
  const x = formed(Float64Array.from(row), form);
  const n = reference.numbers.length;
  const found = Array.from({ length: n }, (_, at) => {
    let squared = 0;
    for (let column = 0, place = at * x.length; column < x.length; column++, place++) {
      squared += (reference.rows[place] - x[column]) ** 2;
    }
    return { number: reference.numbers[at], distance: Math.sqrt(squared) };
  });
  return found.sort((one, other) => one.distance - other.distance).slice(0, most);
}

/**
 * The share of known rows that are at least as far from their nearest known row.
 * @param {Float32Array} usual  sorted
 * @param {number} distance
 */
export function trust(usual, distance) {
  let below = 0;
  let above = usual.length;
  while (below < above) {
    const middle = (below + above) >> 1;
    if (usual[middle] < distance) below = middle + 1;
    else above = middle;
  }
  return (usual.length - below + 1) / (usual.length + 1);
}

/** @param {number} share @returns {{ level: "usual" | "rare" | "unlike", text: string }} */
export function verdict(share) {
  if (share < 0.05) return { level: "unlike", text: "Unlike the known rows, do not rely on this position:" };
  if (share < 0.2) return { level: "rare", text: "Less like the known rows than most:" };
  return { level: "usual", text: "Like the known rows:" };
}

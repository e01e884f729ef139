import assert from "node:assert/strict";
import { test } from "node:test";
import { parseNpy, parseRows, rowOfPicture } from "../src/rows.js";
import { toCsv } from "../src/table.js";
import { nearestRows, trust, verdict } from "../src/trust.js";

const rows = (/** @type {string} */ text, n = 3, /** @type {string[]} */ columns = []) =>
  parseRows(text, n, columns).map((row) => [...row]);

test("lines as people paste them", () => {
  for (const text of ["1,2.5,-3", "1, 2.5, -3", "[1, 2.5, -3]", "1\t2.5\t-3", "1;2,5;-3", "1 2.5 -3", "1,2.5,-3,\n"]) {
    assert.deepEqual(rows(text), [[1, 2.5, -3]], text);
  }
  assert.deepEqual(rows("1e3 .5 +2"), [[1000, 0.5, 2]]);
  assert.deepEqual(rows("[[1. 2.\n 3.]]"), [[1, 2, 3]], "as numpy prints a row");
});

test("a header chooses the model's columns", () => {
  assert.deepEqual(rows("b,name,a\n1,x,2\n3,y,4", 2, ["a", "b"]), [[2, 1], [4, 3]]);
  assert.deepEqual(rows("p,q,r\n1,2,3", 3, ["a", "b", "c"]), [[1, 2, 3]], "other names, same number");
  assert.throws(() => rows("a,name,z\n1,x,2", 2, ["a", "b"]), /got none called "b"/);
});

test("what is no row says so", () => {
  assert.throws(() => rows(""), /must hold a row/);
  assert.throws(() => rows("1,2"), /must have 3 numbers.*got 2/);
  assert.throws(() => rows("1,2,three"), /got "three" in column 3/);
  assert.throws(() => rows("1,2,3\n4,,6"), /Line 2.*got "" in column 2/);
  assert.throws(() => rows("1,2,nan"), /must hold numbers/);
});

/** @param {string} kind @param {string} shape @param {ArrayBuffer} content */
function npy(kind, shape, content, order = "False") {
  const header = `{'descr': '${kind}', 'fortran_order': ${order}, 'shape': (${shape}), }`.padEnd(117) + "\n";
  const head = new Uint8Array(10 + header.length);
  head.set([0x93, 78, 85, 77, 80, 89, 1, 0, header.length & 255, header.length >> 8]);
  head.set(new TextEncoder().encode(header), 10);
  const all = new Uint8Array(head.length + content.byteLength);
  all.set(head);
  all.set(new Uint8Array(content), head.length);
  return all.buffer;
}

test("arrays of NumPy", () => {
  const four = new Float32Array([1, 2, 3, 4]).buffer;
  assert.deepEqual(parseNpy(npy("<f4", "2, 2", four), 2).map((row) => [...row]), [[1, 2], [3, 4]]);
  assert.deepEqual(parseNpy(npy("<f4", "2, 2", four, "True"), 2).map((row) => [...row]), [[1, 3], [2, 4]]);
  assert.deepEqual(parseNpy(npy("<f4", "4,", four), 4).map((row) => [...row]), [[1, 2, 3, 4]]);
  assert.deepEqual([...parseNpy(npy("|u1", "1, 2, 2", new Uint8Array([1, 2, 3, 255]).buffer), 4)[0]], [1, 2, 3, 255]);
  assert.deepEqual([...parseNpy(npy("<i8", "2,", new BigInt64Array([-5n, 6n]).buffer), 2)[0]], [-5, 6]);
  assert.deepEqual([...parseNpy(npy(">i2", "1,", new Uint8Array([1, 0]).buffer), 1)[0]], [256]);
  // 1.5 and -2 in half precision
  assert.deepEqual([...parseNpy(npy("<f2", "2,", new Uint16Array([0x3e00, 0xc000]).buffer), 2)[0]], [1.5, -2]);
});

test("arrays that cannot be placed", () => {
  const two = new Float32Array([1, Number.NaN]).buffer;
  assert.throws(() => parseNpy(new ArrayBuffer(40), 2), /must be a .npy array/);
  assert.throws(() => parseNpy(npy("<f4", "1, 2", two), 3), /must have 3 numbers per row, got shape \(1, 2\)/);
  assert.throws(() => parseNpy(npy("|O8", "2,", two), 2), /must hold numbers/);
  assert.throws(() => parseNpy(npy("<f4", "2,", two), 2), /must be finite/);
  assert.throws(() => parseNpy(npy("<f4", "900, 2", two), 2), /numbers per row/);
});

test("a picture becomes the mean of its cells in the model's range", () => {
  const grey = [0, 255, 255, 255, 51, 51, 0, 0, 51, 51, 0, 0].flatMap((level) => [level, level, level, 255]);
  const picture = { data: grey, width: 4, height: 3 };
  /** @type {import("../src/payload.js").ImageHead} */
  const image = { shape: [1, 2, 1], low: 0, high: 16, ink: "high", box: null };
  const left = (0 + 255 + 4 * 51) / 6 / 255;
  const right = (2 * 255) / 6 / 255;
  const row = rowOfPicture(picture, image, false);
  assert.ok(Math.abs(row[0] - 16 * left) < 1e-9 && Math.abs(row[1] - 16 * right) < 1e-9);
  assert.ok(Math.abs(rowOfPicture(picture, image, true)[0] - 16 * (1 - left)) < 1e-9);
  // Three cells over four pixels: a pixel between two cells counts in both.
  const thirds = rowOfPicture(picture, { ...image, shape: [1, 3, 1] }, false);
  const [second, third] = [(255 + 51 + 51) / 3, 255 / 3];
  assert.ok(Math.abs(thirds[1] - (16 * (second + third)) / 2 / 255) < 1e-9);
});

test("texts that a spreadsheet would compute are marked", () => {
  const csv = toCsv(["row", "text"], [[1, "=1+1"], [-2.5, "+x"], [3, 'a "b", c'], [4, "-"], [5, "@z"], [6, "two\nlines"], [7, "plain"], [Number.NaN, ""]]);
  assert.equal(csv, 'row,text\n1,\'=1+1\n-2.5,\'+x\n3,"a ""b"", c"\n4,\'-\n5,\'@z\n6,"two\nlines"\n7,plain\n,\n');
});

test("trust is a share of the usual distances", () => {
  const usual = new Float32Array([1, 2, 2, 4]);
  assert.deepEqual([0.5, 1, 2, 3, 4, 5].map((distance) => trust(usual, distance)), [1, 1, 0.8, 0.4, 0.4, 0.2]);
  assert.deepEqual([0.01, 0.1, 0.5].map((share) => verdict(share).level), ["unlike", "rare", "usual"]);
});

test("the nearest known rows by their form", () => {
  const reference = { rows: new Float32Array([1, 0, 0, 1, 0.6, 0.8]), numbers: new Uint32Array([7, 8, 9]), distances: new Float32Array(0) };
  assert.deepEqual(nearestRows(reference, [3, 4], "unit", 2).map(({ number }) => number), [9, 8]);
  assert.deepEqual(nearestRows(reference, [1, 0.1], "raw", 1).map(({ number }) => number), [7]);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { Camera } from "../src/camera.js";
import { cellsOf } from "../src/lattice.js";
import { shuffled } from "../src/paint.js";
import { EDGE, MISSING } from "../src/payload.js";
import { Grid, regions } from "../src/points.js";

const n = 2000;
let state = 7;
const random = () => (state = (state * 16807) % 2147483647) / 2147483647;
const xy = Uint16Array.from({ length: 2 * n }, () => Math.floor(random() * (EDGE + 1)));
const distance = (/** @type {number} */ at, /** @type {number} */ u, /** @type {number} */ v) =>
  Math.hypot(xy[2 * at] / EDGE - u, xy[2 * at + 1] / EDGE - v);
const all = Array.from({ length: n }, (_, at) => at);

test("the nearest points are those of a search through all", () => {
  const grid = new Grid(xy);
  for (let trial = 0; trial < 50; trial++) {
    const [u, v] = [random(), random()];
    const sorted = [...all].sort((one, other) => distance(one, u, v) - distance(other, u, v));
    assert.deepEqual(grid.closest(u, v, 5), sorted.slice(0, 5));
    assert.deepEqual(grid.nearest(u, v, 0.1, n), sorted.filter((at) => distance(at, u, v) <= 0.1));
  }
});

test("hidden points are not found", () => {
  const grid = new Grid(xy);
  assert.ok(grid.nearest(0.5, 0.5, 0.2, n, (point) => point % 2 === 0).every((point) => point % 2 === 0));
});

test("a lasso holds what its triangle holds", () => {
  const inside = new Grid(xy).inside([[0, 0], [1, 0], [0, 1]]);
  // Strictly below the diagonal; whole numbers on it belong to one of the sides.
  assert.deepEqual(inside, all.filter((at) => xy[2 * at] + xy[2 * at + 1] < EDGE));
});

test("a name stands in the densest part of its class", () => {
  const places = Uint16Array.from([...Array(20).fill([0.2, 0.3]).flat(), 0.9, 0.9, 0.5, 0.5].map((c) => c * EDGE));
  const codes = Uint16Array.from([...Array(20).fill(0), 0, MISSING]);
  const [found, ...others] = regions(places, codes, 2);
  assert.equal(others.length, 0);
  assert.equal(found.count, 21);
  assert.ok(Math.abs(found.u - 0.2) < 0.03 && Math.abs(found.v - 0.3) < 0.03);
});

test("the order of drawing has every point once", () => {
  assert.deepEqual([...shuffled(1000)].sort((one, other) => one - other), all.slice(0, 1000));
  assert.notDeepEqual([...shuffled(1000)], all.slice(0, 1000));
});

test("the camera goes there and back, and zooms around a place", () => {
  const camera = new Camera();
  camera.resize(800, 600);
  assert.equal(camera.zoom, 1);
  const before = camera.toMap(100, 500);
  camera.zoomBy(3, 100, 500);
  const after = camera.toMap(100, 500);
  assert.ok(Math.hypot(before[0] - after[0], before[1] - after[1]) < 1e-12);
  const [x, y] = camera.toScreen(...camera.toMap(321, 123));
  assert.ok(Math.abs(x - 321) < 1e-9 && Math.abs(y - 123) < 1e-9);
  camera.fit();
  assert.deepEqual(camera.toScreen(0.5, 0.5), [400, 300]);
});

test("the lattice refines with the zoom, and its cells keep their places", () => {
  const camera = new Camera();
  camera.resize(800, 800);
  const coarse = cellsOf(camera);
  camera.zoomBy(2);
  const fine = cellsOf(camera);
  assert.equal(fine.size, coarse.size / 2);
  assert.ok(coarse.size * camera.scale / 2 >= 26 && coarse.size * camera.scale / 2 < 52);
  assert.ok(Number.isInteger(Math.log2(fine.size)));
});

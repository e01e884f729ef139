import assert from "node:assert/strict";
import { test } from "node:test";
import { evaluate, formed } from "../src/network.js";

const near = (/** @type {ArrayLike<number>} */ found, /** @type {number[]} */ wanted) => {
  assert.equal(found.length, wanted.length);
  wanted.forEach((value, at) => assert.ok(Math.abs(found[at] - value) < 1e-6, `${found[at]} is not ${value}`));
};

test("a network computed by hand", () => {
  const layers = [
    { op: "form", rows: "raw" },
    { op: "standardize", mean: new Float32Array([1, 2]), scale: 2 },
    { op: "linear", weight: new Float32Array([1, -1, 2, 0]), bias: new Float32Array([0.5, -3]), relu: true, residual: true },
    { op: "linear", weight: new Float32Array([1, 1]), bias: null, relu: false, residual: false },
  ];
  // (3, 0) -> (1, -1) -> relu(2.5, -1) + (1, -1) = (3.5, -1) -> 2.5
  near(evaluate(layers, [3, 0]), [2.5]);
});

test("activations", () => {
  near(evaluate([{ op: "sigmoid" }], [0, -1000, 1000]), [0.5, 0, 1]);
  near(evaluate([{ op: "relu" }], [-2, 3]), [0, 3]);
});

test("rows of length one", () => {
  near(formed(new Float64Array([3, 4]), "unit"), [0.6, 0.8]);
  near(formed(new Float64Array([0, 0]), "unit"), [0, 0]);
  near(formed(new Float64Array([1, 3]), "centred unit"), [-Math.SQRT1_2, Math.SQRT1_2]);
  near(formed(new Float64Array([0.1, 0.1, 0.1]), "centred unit"), [0, 0, 0]);
});

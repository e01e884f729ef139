import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { paletteOf, tonesOf } from "../src/legend.js";
import { readPayload } from "../src/payload.js";

/** @param {ArrayBufferView | string} content */
const packed = (content) => gzipSync(typeof content === "string" ? content : new Uint8Array(content.buffer)).toString("base64");

const palette = { light: { classes: ["#010203", "#040506"], ramp: ["#000000", "#ffffff"], missing: "#777777" } };
/** @type {any} */
const head = {
  n_points: 2,
  n_rows: 2,
  labels: { kind: "classes", title: "", names: ["a", "b", "c"] },
  palette: { ...palette, dark: palette.light },
  networks: { encoder: [{ op: "linear", weight: { at: 1, size: 2 }, bias: null, relu: false }], decoder: null },
};

test("parts become arrays, and places in the weights become weights", async () => {
  const payload = await readPayload(head, new Map([
    ["xy", packed(new Uint16Array([0, 1, 2, 65535]))],
    ["texts", packed(JSON.stringify(["ä", "</script>"]))],
    ["weights", packed(new Float32Array([9, 1, 2]))],
    ["film", packed(new Uint16Array([0, 0, 0, 0, 1, 1, 1, 1]))],
  ]));
  assert.deepEqual([...payload.xy], [0, 1, 2, 65535]);
  assert.deepEqual(payload.texts, ["ä", "</script>"]);
  assert.deepEqual([...payload.encoder?.[0].weight], [1, 2]);
  assert.equal(payload.encoder?.[0].bias, null);
  assert.equal(payload.decoder, null);
  assert.deepEqual(payload.film.map((frame) => [...frame]), [[0, 0, 0, 0], [1, 1, 1, 1]]);
  assert.equal(payload.codes, null);
});

test("colours of classes repeat, and those of values follow the ramp", () => {
  const base = { n: 3, codes: new Uint16Array([0, 2, 65535]), values: null, head };
  assert.deepEqual([...tonesOf(/** @type {any} */ (base))], [0, 0, 255]);
  const colours = paletteOf(head, "light");
  assert.deepEqual([...colours.subarray(0, 8)], [1, 2, 3, 255, 4, 5, 6, 255]);
  assert.deepEqual([...colours.subarray(1020)], [0x77, 0x77, 0x77, 255]);
  const valued = { ...head, labels: { kind: "values", title: "", low: 0, high: 10 } };
  const values = { n: 4, codes: null, values: new Float32Array([0, 5, 10, Number.NaN]), head: valued };
  assert.deepEqual([...tonesOf(/** @type {any} */ (values))], [0, 127, 254, 255]);
  assert.deepEqual([...paletteOf(valued, "light").subarray(4 * 127, 4 * 127 + 3)], [127, 127, 127]);
});

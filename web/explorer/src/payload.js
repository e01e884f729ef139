// What a page carries: one head of JSON, and named parts of bytes.
//
// The parts stand in the page as base64 of gzip. `readPayload` returns typed arrays; nothing here
// touches the document, so that a notebook can hand over the same parts.

/**
 * @typedef {{ op: string, [setting: string]: any }} Layer
 * @typedef {{ kind: "classes", title: string, names: string[] }
 *   | { kind: "values", title: string, low: number, high: number }} LabelHead
 * @typedef {{ shape: number[], low: number, high: number, ink: "high" | "low",
 *   box: number[] | null }} ImageHead
 * @typedef {{
 *   title: string, n_rows: number, n_points: number,
 *   frame: { low: number[], span: number },
 *   labels: LabelHead | null,
 *   palette: Record<"light" | "dark", { classes: string[], ramp: string[], missing: string }>,
 *   image: ImageHead | null,
 *   tiles: { shape: number[] } | null,
 *   n_features: number, columns: string[],
 *   networks: { encoder: Layer[] | null, decoder: Layer[] | null },
 *   reference: { n: number, form: string } | null,
 *   film: { steps: number[] } | null,
 *   notes: string[],
 * }} Head
 *
 * @typedef {{
 *   head: Head, n: number, xy: Uint16Array, rows: Uint32Array | null,
 *   codes: Uint16Array | null, values: Float32Array | null, texts: string[] | null,
 *   tiles: Uint8Array | null, table: Float32Array | null, moments: Float32Array | null,
 *   encoder: Layer[] | null, decoder: Layer[] | null,
 *   reference: { rows: Float32Array, numbers: Uint32Array, distances: Float32Array } | null,
 *   film: Uint16Array[],
 * }} Payload
 */

/** Code of a point without a label. */
export const MISSING = 65535;
/** Largest coordinate of the square on which points are stored. */
export const EDGE = 65535;

/**
 * Turns base64 of gzip into bytes.
 * @param {string} text
 * @returns {Promise<ArrayBuffer>}
 */
export async function inflate(text) {
  const letters = atob(text);
  const packed = new Uint8Array(letters.length);
  for (let at = 0; at < letters.length; at++) packed[at] = letters.charCodeAt(at);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/**
 * @param {Head} head
 * @param {Map<string, string>} packed  base64 of gzip, by the name of the part
 * @returns {Promise<Payload>}
 */
export async function readPayload(head, packed) {
  /** @type {Map<string, ArrayBuffer>} */
  const parts = new Map();
  for (const [name, text] of packed) parts.set(name, await inflate(text));
  /** @template T @param {string} name @param {(bytes: ArrayBuffer) => T} read */
  const part = (name, read) => {
    const bytes = parts.get(name);
    return bytes === undefined ? null : read(bytes);
  };
  const weights = part("weights", (bytes) => new Float32Array(bytes)) ?? new Float32Array(0);
  const xy = part("xy", (bytes) => new Uint16Array(bytes)) ?? new Uint16Array(0);
  const reference = part("reference", (bytes) => new Float32Array(bytes));
  return {
    head,
    n: head.n_points,
    xy,
    rows: part("rows", (bytes) => new Uint32Array(bytes)),
    codes: part("codes", (bytes) => new Uint16Array(bytes)),
    values: part("values", (bytes) => new Float32Array(bytes)),
    texts: part("texts", (bytes) => JSON.parse(new TextDecoder().decode(bytes))),
    tiles: part("tiles", (bytes) => new Uint8Array(bytes)),
    table: part("table", (bytes) => new Float32Array(bytes)),
    moments: part("moments", (bytes) => new Float32Array(bytes)),
    encoder: bound(head.networks.encoder, weights),
    decoder: bound(head.networks.decoder, weights),
    reference: reference && {
      rows: reference,
      numbers: part("reference_rows", (bytes) => new Uint32Array(bytes)) ?? new Uint32Array(0),
      distances: part("calibration", (bytes) => new Float32Array(bytes)) ?? new Float32Array(0),
    },
    film: part("film", (bytes) => frames(new Uint16Array(bytes), 2 * head.n_points)) ?? [],
  };
}

/**
 * Puts arrays in the place of `{ at, size }`.
 * @param {Layer[] | null} layers
 * @param {Float32Array} weights
 * @returns {Layer[] | null}
 */
function bound(layers, weights) {
  if (layers === null) return null;
  return layers.map((layer) => {
    /** @type {Layer} */
    const whole = { ...layer };
    for (const [name, value] of Object.entries(layer)) {
      if (value !== null && typeof value === "object" && "at" in value) {
        whole[name] = weights.subarray(value.at, value.at + value.size);
      }
    }
    return whole;
  });
}

/**
 * @param {Uint16Array} all
 * @param {number} size
 */
function frames(all, size) {
  const found = [];
  for (let at = 0; at < all.length; at += size) found.push(all.subarray(at, at + size));
  return found;
}

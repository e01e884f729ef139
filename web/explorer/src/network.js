// The package's multilayer perceptrons, evaluated for one row: the same numbers as `transform` and
// `inverse_transform`, which the writer of the page compares before it puts a network in.

/** @typedef {import("./payload.js").Layer} Layer */

/**
 * @param {Layer[]} layers
 * @param {ArrayLike<number>} row
 * @returns {Float64Array}
 */
export function evaluate(layers, row) {
  /** @type {Float64Array} */
  let x = Float64Array.from(row);
  for (const layer of layers) x = OPERATIONS[layer.op](x, layer);
  return x;
}

/** @type {Record<string, (x: Float64Array, layer: Layer) => Float64Array>} */
const OPERATIONS = {
  form: (x, { rows }) => formed(x, rows),
  standardize: (x, { mean, scale }) => x.map((value, at) => (value - mean[at]) / scale),
  relu: (x) => x.map((value) => Math.max(0, value)),
  sigmoid: (x) => x.map((value) => 1 / (1 + Math.exp(-value))),
  linear(x, { weight, bias, relu, residual }) {
    const n = x.length;
    const y = new Float64Array(weight.length / n);
    for (let out = 0, at = 0; out < y.length; out++) {
      let sum = bias === null ? 0 : bias[out];
      for (let input = 0; input < n; input++) sum += weight[at++] * x[input];
      if (relu && sum < 0) sum = 0;
      y[out] = residual ? sum + x[out] : sum;
    }
    return y;
  },
};

const ROUNDING = 1e-6;

/**
 * A row as the distance of the graph sees it: as it is, of length one, or centred and of length one.
 * @param {Float64Array} x
 * @param {string} rows
 * @returns {Float64Array}
 */
export function formed(x, rows) {
  if (rows === "raw") return x;
  let mean = 0;
  if (rows === "centred unit") {
    for (const value of x) mean += value;
    mean /= x.length;
  }
  let squares = 0;
  for (const value of x) squares += (value - mean) ** 2;
  const length = Math.sqrt(squares);
  // After centring, a constant row holds only rounding errors.
  const floor = rows === "unit" ? 0 : Math.abs(mean) * ROUNDING * Math.sqrt(x.length);
  return x.map((value) => (length > floor ? (value - mean) / length : 0));
}

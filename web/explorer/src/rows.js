// Rows that a reader of the page brings: a line of a table, a CSV file, a .npy file, a picture.
// Every function returns rows as the model expects them, or throws an `Error` that says what to do.

/** The most rows that one file places. */
export const MOST_ROWS = 2000;

const DELIMITERS = [";", "\t", "|", ","];

/**
 * Reads pasted text or a CSV file: one row per line, with or without a header.
 * @param {string} text
 * @param {number} nFeatures
 * @param {string[]} columns  names of the model's columns; empty if it has none
 * @returns {Float64Array[]}
 */
export function parseRows(text, nFeatures, columns) {
  const lines = text.split(/\r\n|\r|\n/).filter((line) => line.trim() !== "");
  if (lines.length === 0) throw new Error("The text must hold a row, got nothing. Paste one line.");
  const flat = text.trim().replace(/^\[+|\]+$/g, "");
  if (lines.length > 1 && /^\s*\[/.test(text)) return [vector(flat, nFeatures)];
  const first = cells(lines[0].trim().replace(/^\[+|\]+$/g, ""));
  const isHeader = lines.length > 1 && first.every((cell) => numberOf(cell, ".") === null);
  const places = isHeader ? placesOf(first, columns, nFeatures) : null;
  const body = (isHeader ? lines.slice(1) : lines).slice(0, MOST_ROWS);
  return body.map((line, at) => {
    const row = cells(line.trim().replace(/^\[+|\]+$/g, ""));
    const wanted = places ? places.map((place) => row[place] ?? "") : row;
    return numbers(wanted, nFeatures, decimalOf(line), at + (isHeader ? 2 : 1));
  });
}

/** @param {string} text @param {number} nFeatures */
function vector(text, nFeatures) {
  return numbers(text.split(/[\s,]+/).filter((cell) => cell !== ""), nFeatures, ".", 1);
}

/** @param {string} line @returns {string[]} */
function cells(line) {
  const mark = DELIMITERS.find((delimiter) => line.includes(delimiter));
  if (mark === undefined) return line.trim().split(/\s+/);
  // A decimal comma among spaces, such as "1,5 2,5".
  if (mark === "," && /\d,\d/.test(line) && !/,\s/.test(line) && /\d\s+[-+\d]/.test(line)) {
    return line.trim().split(/\s+/);
  }
  return split(line, mark);
}

/** Splits a line of CSV. @param {string} line @param {string} mark */
function split(line, mark) {
  const found = [];
  let cell = "";
  let isQuoted = false;
  for (let at = 0; at < line.length; at++) {
    const letter = line[at];
    if (letter === '"' && isQuoted && line[at + 1] === '"') {
      cell += '"';
      at++;
    } else if (letter === '"') isQuoted = !isQuoted;
    else if (letter === mark && !isQuoted) {
      found.push(cell.trim());
      cell = "";
    } else cell += letter;
  }
  found.push(cell.trim());
  return found;
}

/** @param {string} line */
function decimalOf(line) {
  const isComma = /\d,\d/.test(line) && (/[;\t|]/.test(line) || /\d\s+[-+\d]/.test(line));
  return isComma && !/\d\.\d/.test(line) ? "," : ".";
}

/** @param {string} cell @param {string} decimal @returns {number | null} */
function numberOf(cell, decimal) {
  const text = decimal === "," ? cell.replace(",", ".") : cell;
  return /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text) ? Number(text) : null;
}

/**
 * @param {string[]} found
 * @param {number} nFeatures
 * @param {string} decimal
 * @param {number} line
 */
function numbers(found, nFeatures, decimal, line) {
  const row = found.length === nFeatures + 1 && found[nFeatures] === "" ? found.slice(0, -1) : found;
  if (row.length !== nFeatures) {
    throw new Error(
      `Line ${line} must have ${nFeatures} numbers, one per column of the model, got ${row.length}. ` +
        "Leave out labels and names, or add a first line with the names of the columns.",
    );
  }
  return Float64Array.from(row, (cell, at) => {
    const value = numberOf(cell, decimal);
    if (value === null || !Number.isFinite(value)) {
      throw new Error(
        `Line ${line} must hold numbers, got "${cell.slice(0, 40)}" in column ${at + 1}. ` +
          "Replace text and missing values.",
      );
    }
    return value;
  });
}

/** @param {string[]} header @param {string[]} columns @param {number} nFeatures */
function placesOf(header, columns, nFeatures) {
  if (columns.length === 0 || header.length === nFeatures && !columns.some((c) => header.includes(c))) {
    return Array.from({ length: Math.max(nFeatures, header.length) }, (_, at) => at);
  }
  const absent = columns.filter((name) => !header.includes(name));
  if (absent.length > 0) {
    throw new Error(
      `The first line must name the model's columns, got none called "${absent[0].slice(0, 40)}"` +
        `${absent.length > 1 ? ` and ${absent.length - 1} more missing` : ""}. Add them.`,
    );
  }
  return columns.map((name) => header.indexOf(name));
}

/** @type {Record<string, (view: DataView, at: number, little: boolean) => number>} */
const READERS = {
  f2: (view, at, little) => half(view.getUint16(at, little)),
  f4: (view, at, little) => view.getFloat32(at, little),
  f8: (view, at, little) => view.getFloat64(at, little),
  u1: (view, at) => view.getUint8(at),
  b1: (view, at) => view.getUint8(at),
  i1: (view, at) => view.getInt8(at),
  u2: (view, at, little) => view.getUint16(at, little),
  i2: (view, at, little) => view.getInt16(at, little),
  u4: (view, at, little) => view.getUint32(at, little),
  i4: (view, at, little) => view.getInt32(at, little),
  u8: (view, at, little) => Number(view.getBigUint64(at, little)),
  i8: (view, at, little) => Number(view.getBigInt64(at, little)),
};

/** @param {number} bits */
function half(bits) {
  const sign = bits >> 15 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/**
 * Reads an array file of NumPy: one row, or one row per first axis.
 * @param {ArrayBuffer} bytes
 * @param {number} nFeatures
 * @returns {Float64Array[]}
 */
export function parseNpy(bytes, nFeatures) {
  const view = new DataView(bytes);
  if (bytes.byteLength < 12 || view.getUint32(0) !== 0x934e554d || view.getUint16(4) !== 0x5059) {
    throw new Error("The file must be a .npy array, got something else. Write it with numpy.save.");
  }
  const isLong = view.getUint8(6) > 1;
  const length = isLong ? view.getUint32(8, true) : view.getUint16(8, true);
  const start = (isLong ? 12 : 10) + length;
  const header = new TextDecoder("latin1").decode(bytes.slice(isLong ? 12 : 10, start));
  const kind = /'descr':\s*'([<>|=])(\w\d)'/.exec(header);
  const shape = /'shape':\s*\(([^)]*)\)/.exec(header)?.[1].match(/\d+/g)?.map(Number) ?? [];
  const read = kind && READERS[kind[2]];
  if (!kind || !read) {
    throw new Error("The array must hold numbers, got another type. Convert it with X.astype('float32').");
  }
  const size = shape.reduce((product, side) => product * side, 1);
  const n = size === nFeatures ? 1 : shape[0];
  if (size !== n * nFeatures || start + size * Number(kind[2][1]) > bytes.byteLength) {
    throw new Error(
      `The array must have ${nFeatures} numbers per row, got shape (${shape.join(", ")}). ` +
        "Save rows in the form that the model was fitted on.",
    );
  }
  const value = (/** @type {number} */ at) => {
    const number = read(view, start + at * Number(kind[2][1]), kind[1] !== ">");
    if (Number.isFinite(number)) return number;
    throw new Error("The array must be finite, got a missing or infinite value. Replace such values.");
  };
  const place = /'fortran_order':\s*True/.test(header) ? fortran(shape) : (/** @type {number} */ at) => at;
  return Array.from({ length: Math.min(n, MOST_ROWS) }, (_, row) =>
    Float64Array.from({ length: nFeatures }, (_, column) => value(place(row * nFeatures + column))),
  );
}

/** Where the element of a C-ordered number lies in Fortran's order. @param {number[]} shape */
function fortran(shape) {
  return (/** @type {number} */ at) => {
    let rest = at;
    let place = 0;
    const index = [];
    for (const side of [...shape].reverse()) {
      index.unshift(rest % side);
      rest = Math.floor(rest / side);
    }
    for (let axis = 0, step = 1; axis < shape.length; step *= shape[axis++]) place += index[axis] * step;
    return place;
  };
}

/**
 * A row from a picture: the mean colour of each cell, in the range of the model's images.
 * @param {{ data: ArrayLike<number>, width: number, height: number }} picture  RGBA, 0 to 255
 * @param {import("./payload.js").ImageHead} image
 * @param {boolean} isInverted
 * @returns {Float64Array}
 */
export function rowOfPicture(picture, image, isInverted) {
  const [height, width, depth] = image.shape;
  const row = new Float64Array(height * width * depth);
  for (let line = 0; line < height; line++) {
    for (let column = 0; column < width; column++) {
      const mean = cellMean(picture, line / height, (line + 1) / height, column / width, (column + 1) / width);
      const grey = 0.299 * mean[0] + 0.587 * mean[1] + 0.114 * mean[2];
      for (let channel = 0; channel < depth; channel++) {
        const level = depth === 1 ? grey : mean[Math.min(channel, 2)];
        const share = isInverted ? 1 - level : level;
        row[(line * width + column) * depth + channel] = image.low + share * (image.high - image.low);
      }
    }
  }
  return row;
}

/**
 * The mean of a part of a picture, with the share of pixels that lie partly in it.
 * @param {{ data: ArrayLike<number>, width: number, height: number }} picture
 * @param {number} top @param {number} bottom @param {number} left @param {number} right  shares
 */
function cellMean({ data, width, height }, top, bottom, left, right) {
  const sum = [0, 0, 0];
  let total = 0;
  for (let y = Math.floor(top * height); y < Math.min(height, bottom * height); y++) {
    const tall = Math.min(y + 1, bottom * height) - Math.max(y, top * height);
    for (let x = Math.floor(left * width); x < Math.min(width, right * width); x++) {
      const weight = tall * (Math.min(x + 1, right * width) - Math.max(x, left * width));
      for (let channel = 0; channel < 3; channel++) {
        sum[channel] += (weight * data[4 * (y * width + x) + channel]) / 255;
      }
      total += weight;
    }
  }
  return total > 0 ? sum.map((value) => value / total) : sum;
}

// Rows that the reader brings: drawn, dropped or pasted. Each lands where the model's `transform`
// would put it, with its nearest known rows and a figure of trust.

import { fill, make, short, whole } from "./dom.js";
import { evaluate, formed } from "./network.js";
import { parseNpy, parseRows, rowOfPicture } from "./rows.js";
import { nearestRows, trust, verdict } from "./trust.js";

/** @typedef {import("./payload.js").Payload} Payload */

const PAD = 224;
const NEAREST = 5;

/**
 * @typedef {{ u: number, v: number, name: string, row: Float64Array, position: number[],
 *   nearest: { number: number, distance: number }[], share: number | null }} Placed
 */

/** Places rows of one payload. */
export class Placer {
  /** @param {Payload} payload */
  constructor(payload) {
    this.payload = payload;
    const { reference, head } = payload;
    this.form = head.reference?.form ?? "raw";
    this.reference = reference && { ...reference, rows: allFormed(reference.rows, head.n_features, this.form) };
  }

  get isAble() {
    return this.payload.encoder !== null;
  }

  /** The position of a row in the units of `transform`. @param {ArrayLike<number>} row */
  position(row) {
    if (this.payload.encoder === null) throw new Error("This page has no network that places rows.");
    // float32, as the model reads rows
    return [...evaluate(this.payload.encoder, Float32Array.from(row))];
  }

  /** @param {Float64Array} row @param {string} name @returns {Placed} */
  place(row, name) {
    const { frame } = this.payload.head;
    const position = this.position(row);
    const [u, v] = position.map((value, axis) => (value - frame.low[axis]) / frame.span);
    const nearest = this.reference ? nearestRows(this.reference, row, this.form, NEAREST) : [];
    const usual = this.payload.reference?.distances;
    const share = usual && usual.length > 0 && nearest.length > 0 ? trust(usual, nearest[0].distance) : null;
    return { u, v, name, row, position, nearest, share };
  }
}

/** @param {Float32Array} rows @param {number} width @param {string} form */
function allFormed(rows, width, form) {
  if (form === "raw") return rows;
  const result = new Float32Array(rows.length);
  for (let at = 0; at < rows.length; at += width) result.set(formed(Float64Array.from(rows.subarray(at, at + width)), form), at);
  return result;
}

/** The part of the page in which rows are brought. */
export class PlacePanel {
  /**
   * @param {HTMLElement} section
   * @param {import("./app.js").App} app
   */
  constructor(section, app) {
    this.section = section;
    this.app = app;
    this.placer = app.placer;
    /** @type {Placed[]} */
    this.placed = [];
    this.count = 0;
    this.text = make("textarea", { spellcheck: "false" });
    this.results = make("div", { class: "results", "aria-live": "polite" });
    this.message = make("p", { class: "error", role: "alert" });
    this.message.hidden = true;
    const title = make("h2", {}, "Place a new row");
    if (!this.placer.isAble) {
      const why = "The network of this model cannot run in a page, which evaluates neumap's own multilayer perceptrons. Use model.transform(X) in Python.";
      fill(section, title, make("p", { class: "note" }, why));
      return;
    }
    const { image } = app.payload.head;
    fill(section, title, ...(image ? [this.pad(image)] : []), this.form(), this.message, this.results);
  }

  /** @param {import("./payload.js").ImageHead} image */
  pad(image) {
    const [height, width] = image.shape;
    const canvas = make("canvas", { class: "pad", width: PAD, height: Math.round((PAD * height) / width), "aria-label": "Draw a picture to place", role: "img" });
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
    const clear = () => {
      context.fillStyle = "#000";
      context.fillRect(0, 0, canvas.width, canvas.height);
    };
    clear();
    context.lineCap = "round";
    context.lineJoin = "round";
    context.strokeStyle = "#fff";
    context.lineWidth = Math.max(12, (PAD / width) * 1.25);
    /** @type {Placed | null} */
    let live = null;
    const placeDrawn = () => {
      const drawn = context.getImageData(0, 0, canvas.width, canvas.height);
      const row = rowOfPicture(inFrame(drawn, image.box), { ...image }, image.ink === "low");
      this.guarded(() => {
        live = this.add([row], live);
      });
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      context.beginPath();
      context.moveTo(event.offsetX * (canvas.width / canvas.clientWidth), event.offsetY * (canvas.height / canvas.clientHeight));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!canvas.hasPointerCapture(event.pointerId)) return;
      context.lineTo(event.offsetX * (canvas.width / canvas.clientWidth), event.offsetY * (canvas.height / canvas.clientHeight));
      context.stroke();
      placeDrawn();
    });
    const again = make("button", { class: "quiet", type: "button", onclick: () => { clear(); live = null; } }, "Clear drawing");
    const open = make("input", { type: "file", accept: "image/*,.npy,.csv,.txt", onchange: () => { this.files([...(open.files ?? [])]); open.value = ""; } });
    const help = make("p", { class: "note" }, "Draw here, or drop a picture, .npy or .csv file on the page.");
    return make("div", { class: "drawing" }, canvas, make("div", { class: "beside" }, help, again, make("label", { class: "quiet file" }, "Choose a file", open)));
  }

  form() {
    const { n_features: nFeatures, image } = this.app.payload.head;
    const { text } = this;
    text.rows = image ? 1 : 3;
    text.placeholder = `Paste a row of ${whole(nFeatures)} numbers`;
    text.setAttribute("aria-label", `A row of ${nFeatures} numbers`);
    text.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey) return;
      event.preventDefault();
      form.requestSubmit();
    });
    const form = make(
      "form",
      {
        class: "pasting",
        onsubmit: (/** @type {SubmitEvent} */ event) => {
          event.preventDefault();
          this.paste(text.value);
        },
      },
      text,
      make("button", { type: "submit", class: "primary" }, "Place"),
    );
    return form;
  }

  /** @param {string} text */
  paste(text) {
    const { n_features: nFeatures, columns } = this.app.payload.head;
    this.guarded(() => this.add(parseRows(text, nFeatures, columns)));
  }

  /** Places the rows of files. @param {File[]} files */
  async files(files) {
    const { n_features: nFeatures, columns, image } = this.app.payload.head;
    if (!this.placer.isAble) return;
    for (const file of files) {
      const isPicture = file.type.startsWith("image/");
      if (isPicture && !image) {
        this.say("The file must be a .npy or .csv, got a picture. The rows of this model are no images.");
        continue;
      }
      const bytes = await file.arrayBuffer();
      if (isPicture && image) await this.picture(new Blob([bytes]), image);
      else if (file.name.toLowerCase().endsWith(".npy")) this.guarded(() => this.add(parseNpy(bytes, nFeatures)));
      else this.guarded(() => this.add(parseRows(new TextDecoder().decode(bytes), nFeatures, columns)));
    }
  }

  /** @param {Blob} file @param {import("./payload.js").ImageHead} image */
  async picture(file, image) {
    try {
      const bitmap = await createImageBitmap(file);
      const picture = cropped(bitmap, image.shape);
      this.add([rowOfPicture(picture, image, isOpposite(picture, image))]);
      this.message.hidden = true;
    } catch {
      this.say("The picture must be one that the browser reads, such as PNG or JPEG, got another file. Convert it.");
    }
  }

  /** @param {() => void} act */
  guarded(act) {
    try {
      this.message.hidden = true;
      act();
    } catch (error) {
      this.say(error instanceof Error ? error.message : String(error));
    }
  }

  /** @param {string} text */
  say(text) {
    this.message.textContent = text;
    this.message.hidden = false;
  }

  /**
   * Places rows; the first of them is described. A drawing replaces its earlier strokes.
   * @param {Float64Array[]} rows
   * @param {Placed | null} [earlier]
   * @returns {Placed}
   */
  add(rows, earlier = null) {
    const name = earlier ? earlier.name : String(++this.count);
    const all = rows.map((row, at) => this.placer.place(row, at === 0 ? name : ""));
    this.placed = [...this.placed.filter((other) => other !== earlier), ...all];
    this.app.stage.placed = this.placed;
    this.describe(all[0], all.length);
    this.app.stage.redraw();
    return all[0];
  }

  clear() {
    this.placed = [];
    this.app.stage.placed = [];
    this.results.replaceChildren();
    this.app.stage.redraw();
  }

  /** @param {Placed} placed @param {number} nRows */
  describe(placed, nRows) {
    const { app } = this;
    const judged = placed.share === null ? null : verdict(placed.share);
    const head = make(
      "div",
      { class: "headline" },
      make("strong", {}, make("b", { class: "badge" }, placed.name), ` at ${placed.position.map(short).join(", ")}`),
      make("button", { class: "quiet", type: "button", onclick: () => app.goTo(placed.u, placed.v) }, "Go there"),
      make("button", { class: "quiet", type: "button", onclick: () => this.clear() }, "Remove all"),
    );
    /** @type {HTMLElement[]} */
    const children = [head];
    if (nRows > 1) children.push(make("p", { class: "note" }, `and ${whole(nRows - 1)} more rows of the file, without a number`));
    if (judged && placed.share !== null) children.push(trustLine(judged, placed.share));
    if (app.pictures.isImage) children.push(make("div", { class: "pair" }, app.figure(app.pictures.ofRow(placed.row), "as the model reads it")));
    if (placed.nearest.length > 0) children.push(make("h3", {}, "Nearest known rows"), this.neighbours(placed));
    fill(this.results, ...children);
    app.openTab("place");
  }

  /** @param {Placed} placed */
  neighbours(placed) {
    const { app } = this;
    const list = make("ul", { class: "neighbours" });
    for (const { number, distance } of placed.nearest) {
      const point = app.pointOf(number);
      const picture = point === null ? null : app.pictures.ofPoint(point);
      const text = [`row ${whole(number)}`, point === null ? "" : app.payload.texts?.[point] || app.labelOf(point)].filter(Boolean).join(" · ");
      const button = make(
        "button",
        { type: "button", onclick: () => point !== null && app.pinPoint(point) },
        picture && app.copyOf(picture),
        make("span", { class: "name" }, text),
        make("span", { class: "count" }, short(distance)),
      );
      list.append(make("li", {}, button));
    }
    return list;
  }
}

/** @param {{ level: string, text: string }} judged @param {number} share */
function trustLine({ level, text }, share) {
  const meter = make("i", {});
  meter.style.width = `${Math.max(2, 100 * share)}%`;
  return make(
    "div",
    { class: `trust ${level}` },
    make("div", { class: "meter", "aria-hidden": "true" }, meter),
    make("p", {}, `${text} ${percent(share)} of them are as far or farther from their nearest neighbour.`),
  );
}

/** @param {number} share */
function percent(share) {
  return share < 0.01 ? "under 1 %" : `${Math.round(100 * share)} %`;
}

/**
 * Moves what is drawn to where the images of the model have it.
 * @param {ImageData} drawn  white on black
 * @param {number[] | null} box  top, bottom, left, right of typical images, as shares
 */
export function inFrame(drawn, box) {
  const { data, width, height } = drawn;
  let [top, bottom, left, right] = [height, 0, width, 0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (data[4 * (y * width + x)] < 64) continue;
      top = Math.min(top, y);
      bottom = Math.max(bottom, y + 1);
      left = Math.min(left, x);
      right = Math.max(right, x + 1);
    }
  }
  if (box === null || bottom <= top) return drawn;
  const scale = Math.min(((box[1] - box[0]) * height) / (bottom - top), ((box[3] - box[2]) * width) / (right - left));
  const from = new OffscreenCanvas(width, height);
  const to = new OffscreenCanvas(width, height);
  const source = /** @type {OffscreenCanvasRenderingContext2D} */ (from.getContext("2d"));
  const target = /** @type {OffscreenCanvasRenderingContext2D} */ (to.getContext("2d"));
  source.putImageData(drawn, 0, 0);
  target.fillRect(0, 0, width, height);
  const x = ((box[2] + box[3]) / 2) * width - (scale * (left + right)) / 2;
  const y = ((box[0] + box[1]) / 2) * height - (scale * (top + bottom)) / 2;
  target.drawImage(from, x, y, width * scale, height * scale);
  return target.getImageData(0, 0, width, height);
}

/** The middle of a picture in the proportions of the model's images. @param {ImageBitmap} bitmap @param {number[]} shape */
function cropped(bitmap, [height, width]) {
  const scale = Math.min(bitmap.width / width, bitmap.height / height);
  const canvas = new OffscreenCanvas(Math.max(width, Math.min(width * 8, 512)), Math.max(height, Math.min(height * 8, 512)));
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  const [wide, tall] = [width * scale, height * scale];
  context.drawImage(bitmap, (bitmap.width - wide) / 2, (bitmap.height - tall) / 2, wide, tall, 0, 0, canvas.width, canvas.height);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

/**
 * Whether the edge of a picture is light where that of the model's images is dark, or the reverse.
 * @param {ImageData} picture
 * @param {import("./payload.js").ImageHead} image
 */
function isOpposite({ data, width, height }, image) {
  if (image.shape[2] !== 1) return false;
  let sum = 0;
  let count = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x += y === 0 || y === height - 1 ? 1 : Math.max(1, width - 1)) {
      const at = 4 * (y * width + x);
      sum += (data[at] + data[at + 1] + data[at + 2]) / 765;
      count++;
    }
  }
  return sum / count > 0.5 === (image.ink === "high");
}

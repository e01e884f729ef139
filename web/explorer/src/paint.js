// Draws the points by WebGL 2. Positions go to the card as the whole numbers that the page stores;
// the order of drawing is random, so that a part of it is a sample while the view moves.

const VERTEX = `#version 300 es
in vec2 from;
in vec2 to;
in vec4 mark; // colour, selection, and two bytes that keep it aligned
uniform vec2 centre, reach;
uniform float mixed, size, layer;
out float shade;
void main() {
  vec2 place = (mix(from, to, mixed) - centre) * reach;
  bool skipped = layer >= 0.0 && mark.y != layer;
  gl_Position = skipped ? vec4(2.0, 2.0, 2.0, 1.0) : vec4(place, 0.0, 1.0);
  gl_PointSize = size;
  shade = mark.x;
}`;

const FRAGMENT = `#version 300 es
precision highp float;
in float shade;
uniform sampler2D palette;
uniform float size, opacity;
out vec4 colour;
void main() {
  float edge = length(gl_PointCoord - 0.5) * size;
  float cover = size < 2.5 ? 1.0 : clamp(size * 0.5 - edge + 0.5, 0.0, 1.0);
  float alpha = cover * opacity;
  if (alpha <= 0.0) discard;
  colour = vec4(texture(palette, vec2((shade + 0.5) / 256.0, 0.5)).rgb * alpha, alpha);
}`;

/** Points that are always drawn while the view moves. */
const FEWEST = 50_000;

/**
 * @typedef {{ u: number, v: number, scale: number, width: number, height: number }} View
 * @typedef {{ size: number, opacity: number, hasSelection: boolean, mix: number }} Style
 */

export class Painter {
  /** @param {HTMLCanvasElement} canvas @param {number} n */
  constructor(canvas, n) {
    const gl = canvas.getContext("webgl2", { antialias: false, alpha: true });
    if (gl === null) throw new Error("WebGL 2 is not available");
    this.canvas = canvas;
    this.gl = gl;
    this.n = n;
    this.program = linked(gl);
    gl.useProgram(this.program);
    this.buffers = {
      from: this.attribute("from", 2, gl.UNSIGNED_SHORT, true),
      to: this.attribute("to", 2, gl.UNSIGNED_SHORT, true),
      mark: this.attribute("mark", 4, gl.UNSIGNED_BYTE, false),
    };
    this.marks = new Uint8Array(4 * n);
    this.order = shuffled(n);
    this.indices = gl.createBuffer();
    this.nShown = n;
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.indices);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, this.order, gl.STATIC_DRAW);
    this.palette = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, this.palette);
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) {
      gl.texParameteri(gl.TEXTURE_2D, name, gl.NEAREST);
    }
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.limit = n;
  }

  /** @param {string} name @param {number} size @param {number} type @param {boolean} isShare */
  attribute(name, size, type, isShare) {
    const { gl } = this;
    const buffer = gl.createBuffer();
    const place = gl.getAttribLocation(this.program, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, size, type, isShare, 0, 0);
    return buffer;
  }

  /** @param {"from" | "to" | "tone" | "chosen"} name @param {Uint8Array | Uint16Array} values */
  put(name, values) {
    const { gl, marks } = this;
    if (name === "from" || name === "to") {
      gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[name]);
      gl.bufferData(gl.ARRAY_BUFFER, values, gl.DYNAMIC_DRAW);
      return;
    }
    // Four bytes per point: some drivers convert attributes that are not aligned at each draw.
    const place = name === "tone" ? 0 : 1;
    for (let at = 0; at < values.length; at++) marks[4 * at + place] = values[at];
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers.mark);
    gl.bufferData(gl.ARRAY_BUFFER, marks, gl.DYNAMIC_DRAW);
  }

  /** @param {Uint8Array} colours  256 of RGBA */
  setPalette(colours) {
    const { gl } = this;
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 256, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, colours);
  }

  /** @param {((point: number) => boolean) | null} isShown */
  setShown(isShown) {
    const shown = isShown === null ? this.order : this.order.filter((point) => isShown(point));
    this.nShown = shown.length;
    this.gl.bindBuffer(this.gl.ELEMENT_ARRAY_BUFFER, this.indices);
    this.gl.bufferData(this.gl.ELEMENT_ARRAY_BUFFER, shown, this.gl.DYNAMIC_DRAW);
  }

  /**
   * @param {View} view
   * @param {Style} style
   * @param {boolean} isMoving  then only a sample that the machine draws in time
   */
  draw(view, style, isMoving) {
    const { gl } = this;
    const ratio = this.canvas.width / view.width;
    gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    this.uniform("centre", view.u, view.v);
    this.uniform("reach", (2 * view.scale) / view.width, (2 * view.scale) / view.height);
    this.uniform("mixed", style.mix);
    this.uniform("size", style.size * ratio);
    const count = isMoving ? Math.min(this.nShown, this.limit) : this.nShown;
    const layers = style.hasSelection ? [0, 1] : [-1];
    for (const layer of layers) {
      this.uniform("layer", layer);
      this.uniform("opacity", layer === 0 ? style.opacity * 0.12 : layer === 1 ? Math.max(0.9, style.opacity) : style.opacity);
      gl.drawElements(gl.POINTS, count, gl.UNSIGNED_INT, 0);
    }
  }

  /** Learns from the time of a frame how many points the machine moves. @param {number} milliseconds */
  learn(milliseconds) {
    if (milliseconds > 45) this.limit = Math.max(FEWEST, Math.round(Math.min(this.limit, this.nShown) * 0.6));
    else if (milliseconds < 20) this.limit = Math.min(this.n, Math.round(this.limit * 1.2));
  }

  /** @param {string} name @param {number} one @param {number} [two] */
  uniform(name, one, two) {
    const place = this.gl.getUniformLocation(this.program, name);
    if (two === undefined) this.gl.uniform1f(place, one);
    else this.gl.uniform2f(place, one, two);
  }
}

/** @param {WebGL2RenderingContext} gl */
function linked(gl) {
  const program = gl.createProgram();
  for (const [kind, source] of /** @type {const} */ ([[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]])) {
    const shader = /** @type {WebGLShader} */ (gl.createShader(kind));
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(String(gl.getShaderInfoLog(shader)));
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(String(gl.getProgramInfoLog(program)));
  return program;
}

/** Numbers 0 to n - 1 in an order that looks random and is always the same. @param {number} n */
export function shuffled(n) {
  const order = new Uint32Array(n);
  for (let at = 0; at < n; at++) order[at] = at;
  let state = 0x9e3779b9;
  for (let at = n - 1; at > 0; at--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const other = Math.floor((state / 2 ** 32) * (at + 1));
    [order[at], order[other]] = [order[other], order[at]];
  }
  return order;
}

/** The same points on a 2-D canvas, where there is no WebGL 2. */
export class PlainPainter {
  /** @param {HTMLCanvasElement} canvas @param {number} n */
  constructor(canvas, n) {
    this.canvas = canvas;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    this.n = n;
    this.order = shuffled(n);
    this.shown = this.order;
    /** @type {{ from: Uint16Array, to: Uint16Array, tone: Uint8Array, chosen: Uint8Array }} */
    this.values = { from: new Uint16Array(2 * n), to: new Uint16Array(2 * n), tone: new Uint8Array(n), chosen: new Uint8Array(n) };
    /** @type {Uint8Array} */
    this.colours = new Uint8Array(1024);
    this.limit = FEWEST;
  }

  /** @param {"from" | "to" | "tone" | "chosen"} name @param {any} values */
  put(name, values) {
    this.values[name] = values;
  }

  /** @param {Uint8Array} colours */
  setPalette(colours) {
    this.colours = colours;
  }

  /** @param {((point: number) => boolean) | null} isShown */
  setShown(isShown) {
    this.shown = isShown === null ? this.order : this.order.filter((point) => isShown(point));
  }

  /** @param {View} view @param {Style} style @param {boolean} isMoving */
  draw(view, style, isMoving) {
    const { context, values, colours } = this;
    const ratio = this.canvas.width / view.width;
    const size = Math.max(1, style.size * ratio);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const count = Math.min(this.shown.length, isMoving ? this.limit : this.shown.length);
    for (const layer of style.hasSelection ? [0, 1] : [-1]) {
      context.globalAlpha = layer === 0 ? style.opacity * 0.12 : style.opacity;
      for (let at = 0; at < count; at++) {
        const point = this.shown[at];
        if (layer >= 0 && values.chosen[point] !== layer) continue;
        const u = (values.from[2 * point] * (1 - style.mix) + values.to[2 * point] * style.mix) / 65535;
        const v = (values.from[2 * point + 1] * (1 - style.mix) + values.to[2 * point + 1] * style.mix) / 65535;
        const tone = 4 * values.tone[point];
        context.fillStyle = `rgb(${colours[tone]},${colours[tone + 1]},${colours[tone + 2]})`;
        const x = ((u - view.u) * view.scale + view.width / 2) * ratio;
        const y = ((view.v - v) * view.scale + view.height / 2) * ratio;
        context.fillRect(x - size / 2, y - size / 2, size, size);
      }
    }
  }

  learn() {}
}

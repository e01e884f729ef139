// Elements from code. Every text becomes a text node: nothing here reads markup.

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any>} [settings]  `class`, listeners (`onclick`), and attributes
 * @param {...(Node | string | number | null | undefined | false)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function make(tag, settings = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(settings)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
  return node;
}

/** @type {Record<string, string>} */
const ICONS = {
  pan: "M8 2v12M2 8h12M8 2 6 4M8 2l2 2M8 14l-2-2M8 14l2-2M2 8l2-2M2 8l2 2M14 8l-2-2M14 8l-2 2",
  lasso: "M8 3c3.3 0 6 1.6 6 3.7s-2.7 3.7-6 3.7-6-1.6-6-3.7S4.7 3 8 3M5 10v1.5c0 1-.7 1.8-1.8 2",
  line: "M3.5 12.5 12.5 3.5M2.2 13.8a1.8 1.8 0 1 0 2.6-2.6 1.8 1.8 0 0 0-2.6 2.6M11.2 4.8a1.8 1.8 0 1 0 2.6-2.6 1.8 1.8 0 0 0-2.6 2.6",
  lattice: "M2.5 2.5h4.5v4.5h-4.5zM9 2.5h4.5v4.5H9zM2.5 9h4.5v4.5h-4.5zM9 9h4.5v4.5H9z",
  names: "M2.5 3.5h6l5 4.5-5 4.5h-6zM5 8h.01",
  reset: "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10",
  theme: "M8 2.5a5.5 5.5 0 1 0 0 11zM8 2.5a5.5 5.5 0 0 1 0 11",
  help: "M6 6.2C6 4.9 6.900 4 8 4s2 .8 2 1.9c0 1.5-2 1.6-2 3.1M8 11.5v.2M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12Z",
  play: "M5 3.2v9.6L12.5 8z",
  pause: "M5 3.5v9M11 3.5v9",
  close: "M4 4l8 8M12 4l-8 8",
};

/** @param {string} name */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const picture = document.createElementNS(space, "svg");
  picture.setAttribute("viewBox", "0 0 16 16");
  picture.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", ICONS[name]);
  picture.append(path);
  return picture;
}

/** @param {HTMLElement} node @param {(Node | string)[]} children */
export function fill(node, ...children) {
  node.replaceChildren(...children);
}

/** @param {number} value */
export function short(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2).replace("-", "−");
  return Number(value.toPrecision(4)).toLocaleString("en-US", { maximumFractionDigits: 6 }).replace("-", "−");
}

/** @param {number} count */
export function whole(count) {
  return count.toLocaleString("en-US");
}

// The entry: `mount` for a host that has the payload, and the page's own start where the payload
// stands in the document.

import css from "./explorer.css";
import { App } from "./app.js";
import { make } from "./dom.js";
import { readPayload } from "./payload.js";

/**
 * Builds the explorer inside an element. Its styles stay inside as well.
 * @param {HTMLElement} host
 * @param {import("./payload.js").Head} head
 * @param {Map<string, string>} packed  base64 of gzip, by the name of the part
 */
export async function mount(host, head, packed) {
  const root = make("div", { class: "explorer", tabindex: -1 });
  const inside = host.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  inside.adoptedStyleSheets = [sheet];
  inside.append(root);
  const app = new App(root, await readPayload(head, packed));
  Object.assign(host, { explorer: app });
  return app;
}

/** The widget of a notebook, in the form of anywidget. */
export default {
  /** @param {{ model: any, el: HTMLElement }} context */
  async render({ model, el }) {
    const host = make("div");
    host.style.height = model.get("height");
    el.append(host);
    const app = await mount(host, model.get("head"), new Map(Object.entries(model.get("parts"))));
    app.selected = (rows) => {
      model.set("selection", rows);
      model.save_changes();
    };
  },
};

async function start() {
  const host = document.getElementById("explorer");
  const head = document.getElementById("head");
  if (host === null || head === null) return;
  const parts = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("script[data-part]")]);
  const packed = new Map(parts.map((part) => [part.dataset.part ?? "", (part.textContent ?? "").trim()]));
  for (const part of parts) part.remove(); // the text would stay in memory
  document.addEventListener("keydown", (event) => {
    if (event.target === document.body) app.key(event);
  });
  const app = await mount(host, JSON.parse(head.textContent ?? ""), packed);
}

if (typeof document !== "undefined" && document.getElementById("head") !== null) {
  start().catch((error) => {
    const message = "This page could not be opened. It needs a browser of 2023 or newer.";
    document.getElementById("explorer")?.append(make("p", { class: "failed" }, `${message} (${error})`));
    throw error;
  });
}

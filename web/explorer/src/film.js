// Copies of the map during training, played as a film.

import { icon, make, whole } from "./dom.js";

/** Seconds for the whole film. */
const SECONDS = 6;

export class Film {
  /**
   * @param {HTMLElement} host
   * @param {import("./stage.js").Stage} stage
   * @param {Uint16Array[]} frames
   * @param {number[]} steps  optimiser steps at each frame
   */
  constructor(host, stage, frames, steps) {
    this.stage = stage;
    this.frames = frames;
    this.steps = steps;
    this.last = frames.length - 1;
    this.at = this.last;
    this.running = 0;
    this.before = -1;
    this.button = make("button", { type: "button", class: "tool", "aria-label": "Play the training", onclick: () => this.toggle() }, icon("play"));
    this.slider = make("input", {
      type: "range", min: 0, max: this.last, step: 0.01, value: this.last, "aria-label": "Step of the training",
      oninput: () => {
        this.stop();
        this.show(Number(this.slider.value));
      },
    });
    this.text = make("output", {});
    host.append(this.button, this.slider, this.text);
    host.hidden = false;
    this.describe();
  }

  toggle() {
    if (this.running) return this.stop();
    const start = this.at >= this.last ? 0 : this.at;
    const began = performance.now();
    const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.button.replaceChildren(icon("pause"));
    const tick = (/** @type {number} */ now) => {
      const at = start + ((now - began) / 1000 / SECONDS) * Math.max(this.last, 1);
      if (at >= this.last) {
        this.stop();
        return this.show(this.last);
      }
      this.show(isStill ? Math.floor(at) : at);
      this.running = requestAnimationFrame(tick);
    };
    this.running = requestAnimationFrame(tick);
  }

  stop() {
    cancelAnimationFrame(this.running);
    this.running = 0;
    this.button.replaceChildren(icon("play"));
  }

  /** Shows a moment between the frames; the last one is the map itself. @param {number} at */
  show(at) {
    const { stage } = this;
    /** @type {number} */
    const before = Math.min(Math.floor(at), this.last);
    if (before !== this.before) {
      stage.painter.put("from", at >= this.last ? stage.payload.xy : this.frames[before]);
      stage.painter.put("to", at >= this.last ? stage.payload.xy : this.frames[Math.min(before + 1, this.last)]);
      this.before = before;
    }
    this.at = at;
    stage.isPlaying = at < this.last;
    stage.mix = at >= this.last ? 0 : at - before;
    stage.redraw();
    this.slider.value = String(at);
    this.describe();
  }

  describe() {
    const before = Math.floor(this.at);
    const after = Math.min(before + 1, this.last);
    const step = this.steps[before] + (this.at - before) * (this.steps[after] - this.steps[before]);
    this.text.textContent = this.at >= this.last ? "trained" : `step ${whole(Math.round(step))}`;
  }
}

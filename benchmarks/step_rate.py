"""Fraction of the machine's GEMM throughput reached by a training step.

    python benchmarks/step_rate.py                                # the presets at 784 columns
    python benchmarks/step_rate.py --presets default --columns 50

A step is what ``training/loop.py`` does: draw edges, compute losses and gradients, and take one
Muon step. Only the floating-point operations of the matrix products count, those of the forward
pass and of both gradients. Everything else in a step appears as time without operations. The rate
is compared with

* the *peak*: the rate of one square product of width 2,048, and
* the *bare products* of the step, one after another, written to preallocated memory.

Both use the dtype in which the hidden layers train on this machine and the threads that a step
uses. The *machine* rate is the peak on all threads of torch, of which a step uses only some. The
measurements alternate, and every ratio compares times of the same round. Small products can run
from the cache and exceed the peak, so a ratio near 1 is not necessarily the limit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lib import machine
from lib.child import versions
from lib.methods import METHODS
from lib.results import RESULTS, command, write
from lib.timing import in_turn, ratio, spread
from torch import Tensor

from neumap._device import fast_dtype, torch_threads
from neumap.data import DenseRows
from neumap.estimators import PRESETS, Preset
from neumap.estimators.positions.networks import prepare_encoder
from neumap.fuzzy import FuzzyGraph
from neumap.losses import Kernel
from neumap.losses.terms import UmapTerm
from neumap.sampling import EdgeSampler
from neumap.similarity import find_ab
from neumap.training import EncoderEmbedder, InputNoise, Muon, Step, choose_step

N_COMPONENTS = 2
N_NEIGHBORS = 15
CPU = torch.device("cpu")
# A quarter of the training; the time of a step does not depend on it.
PROGRESS = 0.25
STEPS_PER_PEAK = 4  # timed per square product, which takes several times as long as a step


@dataclass(frozen=True)
class Training:
    """The parts of a training loop, ready to step."""

    preset: Preset
    step: Step
    sampler: EdgeSampler
    optimizer: Muon

    def draw(self) -> Tensor:
        return self.sampler.draw(self.preset.batch_edges)

    def whole_step(self) -> None:
        self.step(self.draw(), PROGRESS)
        self.optimizer.step()


@dataclass(frozen=True)
class Product:
    """One matrix product of a step: (n, m) times (m, k), written to preallocated memory."""

    left: Tensor
    right: Tensor
    out: Tensor

    @property
    def flop(self) -> int:
        (n, m), k = self.left.shape, self.right.shape[1]
        return 2 * n * m * k

    def __call__(self) -> None:
        torch.mm(self.left, self.right, out=self.out)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    result: dict[str, Any] = {
        "command": command("step_rate.py", arguments),
        "machine": machine.describe(),
        "versions": versions(METHODS["neumap"].packages),
        "torch_threads": torch.get_num_threads(),
        "runs": [],
    }
    for name in options.presets:
        result["runs"].append(measure(name, options))
        write(result, options.output)
        print(line(result["runs"][-1]), flush=True)
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    add = parser.add_argument
    add("--presets", nargs="+", choices=list(PRESETS), default=list(PRESETS))
    add("--rows", type=int, default=4000)
    add("--columns", type=int, default=784)
    # The sampler draws the edges of 128 steps at once, so 128 steps contain one such draw.
    add("--steps", type=int, default=128, help="timed together in one round")
    add("--repeats", type=int, default=11, help="rounds; medians are reported")
    add("--peak", type=int, default=2048, metavar="N", help="width of the square product")
    add("--threads", type=int, help="of torch; a step uses some of them (default: torch's)")
    add("--output", type=Path, default=RESULTS / "step_rate.json", metavar="FILE")
    return parser.parse_args(arguments)


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Time steps of one preset, their bare products and the peak alternately."""
    preset, dtype = PRESETS[name], fast_dtype(CPU)
    training = make_training(preset, options.rows, options.columns)
    products = bare_products(preset, options.columns, dtype)
    peak = product(options.peak, options.peak, options.peak, dtype)
    all_threads = torch.get_num_threads()

    def peak_on_all_threads() -> None:
        with torch_threads(all_threads):
            peak()

    n_steps = options.steps
    n_products = max(1, n_steps // STEPS_PER_PEAK)
    calls: dict[str, tuple[Callable[[], Any], int]] = {
        "step": (training.whole_step, n_steps),
        "products": (lambda: [call() for call in products], n_steps),
        "peak": (peak, n_products),
        "machine": (peak_on_all_threads, n_products),
        "draw": (training.draw, n_steps),
        "optimizer": (training.optimizer.step, n_steps),
    }
    with torch_threads(training.step.n_threads):
        n_threads = torch.get_num_threads()
        seconds = in_turn(
            {part: call for part, (call, _) in calls.items()},
            options.repeats,
            {part: count for part, (_, count) in calls.items()},
        )
    training.step.finish()
    flop = sum(call.flop for call in products)
    return {
        "preset": name,
        "rows": options.rows,
        "columns": options.columns,
        "batch_rows": 2 * preset.batch_edges,
        "step_kind": type(training.step).__name__,
        "dtype": str(dtype).removeprefix("torch."),
        "threads": n_threads,
        **rates(seconds, flop, peak.flop),
    }


def rates(seconds: dict[str, list[float]], flop: int, peak_flop: int) -> dict[str, Any]:
    """Return milliseconds, operations per second and ratios, as spreads over the rounds."""
    step, products = seconds["step"], seconds["products"]
    # How long the operations of a step would take at the rate of the square product.
    at_peak, at_machine = (
        [flop / peak_flop * one for one in seconds[name]] for name in ("peak", "machine")
    )
    return {
        "flop_per_step": flop,
        "milliseconds": {name: spread(1e3 * s for s in found) for name, found in seconds.items()},
        "gflop_per_second": {
            name: spread(1e-9 * flop / s for s in found)
            for name, found in (
                ("step", step),
                ("products", products),
                ("peak", at_peak),
                ("machine", at_machine),
            )
        },
        "share_of_peak": ratio(at_peak, step),
        "share_of_machine": ratio(at_machine, step),
        "share_of_products": ratio(products, step),
        "products_share_of_peak": ratio(at_peak, products),
    }


def make_training(preset: Preset, n_rows: int, n_columns: int) -> Training:
    """Return the training parts of a `ParametricUMAP` for random rows and a random graph."""
    generator = np.random.default_rng(0)
    rows = DenseRows(generator.random((n_rows, n_columns), dtype=np.float32))
    network = prepare_encoder(None, rows, N_COMPONENTS, preset.hidden, seed=0).train()
    embedder = EncoderEmbedder(network, rows, InputNoise(torch.full((n_rows,), 0.1), seed=0))
    a, b = find_ab()
    term = UmapTerm(Kernel(a, b, 5.0 * preset.repulsion), preset.softening, preset.n_negatives)
    step = choose_step(embedder, [term])
    sampler = EdgeSampler(random_graph(generator, n_rows), seed=0)
    return Training(preset, step, sampler, Muon(step.parameters()))


def random_graph(generator: np.random.Generator, n_rows: int) -> FuzzyGraph:
    """Return a graph with 15 random edges per row and random weights."""
    heads = np.repeat(np.arange(n_rows - 1), N_NEIGHBORS)
    tails = generator.integers(heads + 1, n_rows)
    weights = generator.uniform(0.1, 1.0, size=len(heads)).astype(np.float32)
    return FuzzyGraph(heads, tails, weights, n_rows)


def bare_products(preset: Preset, n_columns: int, dtype: torch.dtype) -> list[Product]:
    """Return the products of a step: forward pass, weight gradients and input gradients.

    The last layer is float32, as in the step. The first needs no input gradient.
    """
    n_rows = 2 * preset.batch_edges
    widths = [n_columns, *preset.hidden, N_COMPONENTS]
    products = []
    for depth, (n_in, n_out) in enumerate(pairwise(widths)):
        kind = torch.float32 if depth == len(preset.hidden) else dtype
        products.append(product(n_rows, n_in, n_out, kind, transposed="right"))
        products.append(product(n_out, n_rows, n_in, kind, transposed="left"))
        if depth:
            products.append(product(n_rows, n_out, n_in, kind))
    return products


def product(n: int, m: int, k: int, dtype: torch.dtype, transposed: str = "") -> Product:
    """Return (n, m) times (m, k); the transposed factor is stored as its transpose."""
    left = torch.randn(m, n).t() if transposed == "left" else torch.randn(n, m)
    right = torch.randn(k, m).t() if transposed == "right" else torch.randn(m, k)
    # `to` keeps the strides, and with them the layout.
    return Product(left.to(dtype), right.to(dtype), torch.empty(n, k, dtype=dtype))


def line(run: dict[str, Any]) -> str:
    took, rate = run["milliseconds"], run["gflop_per_second"]
    return (
        f"{run['preset']} ({run['dtype']}, {run['threads']} threads): step "
        f"{took['step']['median']:.2f} ms, products {took['products']['median']:.2f} ms; "
        f"{rate['step']['median']:.0f} of {rate['peak']['median']:.0f} GFLOP/s "
        f"({rate['machine']['median']:.0f} on all threads); fraction of peak "
        f"{run['share_of_peak']['median']:.2f}, of the bare products "
        f"{run['share_of_products']['median']:.2f}"
    )


if __name__ == "__main__":
    sys.exit(main())

"""Bad values, inputs, command lines, networks and callbacks, and how each of them ends.

    python benchmarks/hostile.py                     # some minutes
    python benchmarks/hostile.py --only lines        # one group
    python benchmarks/hostile.py --tries 100         # a sample of each group, drawn by --seed

The cases are those of the tests. Columns: a clear error, which is a ValueError or TypeError (for a
command line: one line and exit code 2) that names the parameter or says what was expected and what
came; a case that acted; anything else. Cases of "right" and "other" must act, all others must fail.
The exit code is 0 if they did; those that did not are printed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import re
import shlex
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from neumap import UMAP, ParametricUMAP
from neumap.callbacks import CallbackList, EarlyStopping
from neumap.cli import main as command
from neumap.data import check_input

os.environ.setdefault("KERAS_BACKEND", "torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, f"{sys.path[0]}/estimators")
sys.path.insert(0, f"{sys.path[1]}/behaviour")
import test_cli_failures as lines
import test_data_refused as inputs
import test_estimators_constraints as values
import test_user_networks as networks

LINES = "lines"
CLEAR, ACTED, OTHER = "clear error", "acted", "anything else"
# A case: its name, what to do, a pattern of the message or None where it must act.
Case = tuple[str, Callable[[], Any], str | None]


def bad_values() -> Iterator[Case]:
    for case in values.wrong_values():
        kind, name, value = case.values
        yield case.id, partial(fit, values.model_of, kind, name, value), rf"\b{name}\b"
    for name, (parameters, message) in values.WRONG.items():
        yield name, partial(fit, UMAP, **values.QUICK | parameters), message
    for name, (parameters, message) in values.PARAMETRIC.items():
        quick = {"preset": "fast", **values.QUICK, **parameters}
        yield name, lambda quick=quick: ParametricUMAP(**quick).fit(values.X), message


def right_values() -> Iterator[Case]:
    for case in values.right_values():
        kind, name, value = case.values
        beside = {"a": {"b": 0.9}, "b": {"a": 1.6}}.get(name, {}) if value is not None else {}
        yield case.id, partial(fit, values.model_of, kind, name, value, beside=beside), None


def fit(make: Callable[..., Any], *arguments: Any, beside: Any = None, **parameters: Any) -> None:
    model = make(*arguments, **parameters).set_params(**(beside or {}))
    is_square = isinstance(model.metric, str) and model.metric == "precomputed"
    model.fit(np.abs(values.X @ values.X.T) if is_square else values.X, values.Y)


def bad_inputs() -> Iterator[Case]:
    for name, (make, message, _) in inputs.REFUSED.items():
        for where, act in {
            "check_input": check_input,
            "UMAP.fit": UMAP(n_neighbors=4, n_epochs=2).fit,
            "ParametricUMAP.fit": ParametricUMAP(n_neighbors=4, n_epochs=2).fit,
        }.items():
            yield f"{where}: {name}", lambda a=act, m=make: a(m()), message


def other_inputs() -> Iterator[Case]:
    for name, (make, _) in inputs.READ.items():
        yield name, lambda m=make: check_input(m()), None


def bad_networks() -> Iterator[Case]:
    for role in ("encoder", "decoder"):
        for name, (make, message) in networks.REFUSED.items():
            act = partial(place_network, role, make)
            yield f"{role}: {name}", act, rf"^(?={role} must ).*{message}"
    for name, make in networks.FROZEN.items():
        yield f"encoder: {name}", partial(place_network, "encoder", make), "^encoder must have"


def other_networks() -> Iterator[Case]:
    for role in ("encoder", "decoder"):
        for name, make in networks.ACCEPTED.items():
            yield f"{role}: {name}", partial(place_network, role, make), None


def place_network(role: str, make: Callable[..., Any]) -> None:
    networks.as_role(role, make).fit(networks.X)


def bad_callbacks() -> Iterator[Case]:
    wrong = [EarlyStopping, 3, "x", print, object(), b"x", {"a": 1}, 1.5, None, np.zeros(2), [3]]
    for given in wrong:
        yield f"list: {given!r:.40}", lambda g=given: CallbackList([g]), "callbacks must be"
        if given is not None:
            act = partial(fit, UMAP, **values.QUICK, callbacks=[given])
            yield f"fit: {given!r:.40}", act, "callbacks"
    for name, (loss, message) in values.BAD_LOSSES.items():
        parameters = {
            "parametric_reconstruction": True,
            "parametric_reconstruction_loss_fcn": loss,
        }
        act = partial(fit, ParametricUMAP, **values.QUICK, preset="fast", **parameters)
        yield f"loss: {name}", act, f"parametric_reconstruction_loss_fcn must.*{message}"


def command_lines(place: Path) -> Iterator[Case]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        lines.make_folder(place)
    for line, message in lines.LINES.items():
        yield line, partial(run_line, place, line), re.escape(message)


def run_line(folder: Path, line: str) -> None:
    """Raise ValueError with the message of a command that ends with one line and code 2."""
    out, err = io.StringIO(), io.StringIO()
    outputs = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
    with contextlib.chdir(folder), outputs[0], outputs[1]:
        code = command(shlex.split(line))
    message = err.getvalue()
    if code == 0:
        return
    is_line = message.startswith("neumap: ") and message.count("\n") == 1 and not out.getvalue()
    if code != 2 or not is_line:
        raise RuntimeError(f"code {code}: {message}")
    raise ValueError(message)


GROUPS: dict[str, Callable[..., Iterator[Case]]] = {
    "values": bad_values,
    "right-values": right_values,
    "inputs": bad_inputs,
    "other-inputs": other_inputs,
    "networks": bad_networks,
    "other-networks": other_networks,
    "callbacks": bad_callbacks,
    LINES: command_lines,
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=GROUPS, help="one group instead of all")
    parser.add_argument("--seed", type=int, default=0, help="of the order and of the sample")
    parser.add_argument("--tries", type=int, help="cases of each group, instead of all")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    n_bad = 0
    print(ROW.format("group", "cases", CLEAR, ACTED, OTHER))
    for group in [options.only] if options.only else GROUPS:
        with tempfile.TemporaryDirectory(prefix="neumap-hostile-") as place:
            cases = list(GROUPS[group](Path(place)) if group == LINES else GROUPS[group]())
            random.Random(options.seed).shuffle(cases)
            counts = attempt(cases[: options.tries])
        n_bad += counts["unexpected"]
        ends = [counts[end] for end in (CLEAR, ACTED, OTHER)]
        print(ROW.format(group, sum(ends), *ends), flush=True)
    return min(n_bad, 1)


ROW = "{:<16}" + "{:>14}" * 4


def attempt(cases: list[Case]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for name, act, message in cases:
        found, words = outcome(act, message)
        counts[found] += 1
        if found != (ACTED if message is None else CLEAR):
            counts["unexpected"] += 1
            print(f"{name}: {found}: {words}", file=sys.stderr)
    return counts


def outcome(act: Callable[[], Any], message: str | None) -> tuple[str, str]:
    try:
        act()
    except (ValueError, TypeError) as error:
        words = str(error)
        is_clear = re.search(message or "", words, re.DOTALL) is not None
        return (CLEAR if is_clear else OTHER), words
    except BaseException:  # whatever comes is counted
        return OTHER, traceback.format_exc()
    return ACTED, ""


if __name__ == "__main__":
    sys.exit(main())

"""Constructor parameters checked at ``fit``: what was expected, what came, what to do."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["check_batch_size", "check_parameters", "check_switches", "short_text"]

LOSS_WEIGHTS = (
    "parametric_reconstruction_loss_weight",
    "global_correlation_loss_weight",
    "landmark_loss_weight",
    "classifier_loss_weight",
)
SETTINGS = ("metric_kwds", "target_metric_kwds", "tqdm_kwds", "keras_fit_kwargs")
INIT_WORDS = ("auto", "spectral", "tswspectral", "pca", "random")


def _number(name: str, value: Any, low: float, high: float | None = None) -> None:
    """Raise unless `value` is a real number in [low, high]."""
    number = float("nan")
    if type(value) not in (bool, np.bool_) and isinstance(value, numbers.Real):
        number = float(value)
    if not low <= number <= (math.inf if high is None else high):
        span = f"at least {low}" if high is None else f"between {low} and {high}"
        raise ValueError(f"{name} must be a number {span}, got {value!r}. Change {name}.")


def _integer(name: str, value: Any, low: int, *, also: tuple[Any, ...] = ()) -> None:
    """Raise unless `value` is an integer of at least `low`, or one of `also`."""
    if any(value is other or value == other for other in also):
        return
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < low:
        others = "".join(f", or {other!r}" for other in also)
        raise ValueError(
            f"{name} must be an integer of at least {low}{others}, got {value!r}. Change {name}."
        )


def _word(name: str, value: Any, words: tuple[str, ...]) -> None:
    if value not in words:
        raise ValueError(f"{name} must be one of {list(words)}, got {value!r}.")


def short_text(value: object) -> str:
    """Return a representation that fits into a message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Check every parameter that has a range.

    Raises
    ------
    ValueError
        Naming the parameter, what it may be and what it is.
    """
    p = parameters
    _integer("n_neighbors", p["n_neighbors"], 2)
    _integer("n_components", p["n_components"], 1)
    _number("set_op_mix_ratio", p["set_op_mix_ratio"], 0.0, 1.0)
    _number("local_connectivity", p["local_connectivity"], 0.0)
    _number("repulsion_strength", p["repulsion_strength"], 0.0)
    _number("negative_sample_rate", p["negative_sample_rate"], 0.0)
    _number("learning_rate", p["learning_rate"], 0.0)
    _number("min_dist", p["min_dist"], 0.0)
    _number("spread", p["spread"], 0.0)
    if p["min_dist"] > p["spread"]:
        raise ValueError(
            f"min_dist must be at most spread, got min_dist={p['min_dist']} with "
            f"spread={p['spread']}. Lower min_dist or raise spread."
        )
    _integer("n_epochs", p["n_epochs"], 0, also=(None,))
    _integer("n_training_epochs", p["n_training_epochs"], 1)
    _integer("loss_report_frequency", p["loss_report_frequency"], 1)
    check_batch_size(p["batch_size"])
    _integer("target_n_neighbors", p["target_n_neighbors"], 2, also=(-1,))
    _number("target_weight", p["target_weight"], 0.0, 1.0)
    _number("transform_queue_size", p["transform_queue_size"], 0.0)
    _number("dens_lambda", p["dens_lambda"], 0.0)
    _number("dens_frac", p["dens_frac"], 0.0, 1.0)
    _number("dens_var_shift", p["dens_var_shift"], 0.0)
    _word("transform_mode", p["transform_mode"], ("embedding", "graph"))
    _integer("transform_seed", p["transform_seed"], 0)
    _check_unique(p["unique"], p["metric"])
    _check_init(p["init"])
    _check_jobs(p["n_jobs"])
    _check_ab(p["a"], p["b"])
    _check_output_metric(p["output_metric"], p["output_metric_kwds"])
    for name in ("max_time", "disconnection_distance"):
        if p[name] is not None:
            _number(name, p[name], 0.0)
    for name in LOSS_WEIGHTS:
        _number(name, p.get(name, 0.0), 0.0)
    for name in SETTINGS:
        _check_settings(name, p.get(name))
    if p.get("landmark_loss_fn") is not None and not callable(p["landmark_loss_fn"]):
        raise ValueError(
            f"landmark_loss_fn must be a function (targets, positions) or None, got "
            f"{short_text(p['landmark_loss_fn'])}."
        )


def _check_settings(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, Mapping):
        raise ValueError(f"{name} must be a dict of arguments or None, got {short_text(value)}.")


def _check_unique(unique: Any, metric: Any) -> None:
    if unique and isinstance(metric, str) and metric == "precomputed":
        raise ValueError(
            "unique=True finds equal rows, which a matrix of distances does not hold. Set "
            "unique=False, or pass the distances of distinct rows only."
        )


def check_batch_size(value: Any) -> None:
    """Raise unless `value` is a positive integer or None."""
    _integer("batch_size", value, 1, also=(None,))


# What acts only while a switch of ParametricUMAP is on, with the value that asks for nothing.
BEHIND_A_SWITCH: dict[str, dict[str, Any]] = {
    "parametric_reconstruction": {
        "decoder": None,
        "parametric_reconstruction_loss_fcn": None,
        "autoencoder_loss": False,
    },
    "parametric_embedding": {"encoder": None},
}


def check_switches(parameters: Mapping[str, Any]) -> None:
    """Check that nothing was asked for that cannot act.

    Raises
    ------
    ValueError
        If `init` is set for an encoder, which starts from its weights.

    Warns
    -----
    UserWarning
        If a parameter waits for a switch that is off.
    """
    p = parameters
    if p["parametric_embedding"] and not (isinstance(p["init"], str) and p["init"] == "auto"):
        raise ValueError(
            f"init must be 'auto' for an encoder, which starts from its weights; got "
            f"{short_text(p['init'])}. Leave init out, pass an encoder with weights of your "
            "choice, or set parametric_embedding=False."
        )
    for switch, names in BEHIND_A_SWITCH.items():
        if p[switch]:
            continue
        for name, neutral in names.items():
            if p[name] is not neutral:
                warnings.warn(
                    f"{name} has no effect while {switch}=False. Set {switch}=True, or leave "
                    f"{name} out.",
                    stacklevel=5,
                )


def _check_init(init: Any) -> None:
    if isinstance(init, str):
        _word("init", init, INIT_WORDS)
    elif not hasattr(init, "__array__") and not isinstance(init, list):
        raise ValueError(
            f"init must be one of {list(INIT_WORDS)} or an array (n_samples, n_components), "
            f"got {init!r}."
        )


def _check_jobs(n_jobs: Any) -> None:
    if n_jobs is not None and (
        not isinstance(n_jobs, numbers.Integral) or n_jobs == 0 or n_jobs < -1
    ):
        raise ValueError(f"n_jobs must be a positive integer, or -1 for all cores, got {n_jobs!r}.")


def _check_ab(a: Any, b: Any) -> None:
    if (a is None) != (b is None):
        raise ValueError(
            f"a and b describe one curve together, got a={a!r} and b={b!r}. Give both, or "
            "neither and use min_dist and spread."
        )
    if a is not None:
        _number("a", a, 0.0)
        _number("b", b, 0.0)


def _check_output_metric(metric: Any, kwds: Any) -> None:
    if metric not in ("euclidean", "l2") or kwds:
        raise ValueError(
            f"output_metric must be 'euclidean' without output_metric_kwds, got {metric!r} with "
            f"{kwds!r}. The map's forces are written in closed form for Euclidean distance."
        )

"""Files of neumap 0.1, which held the attributes of an estimator under their private names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["fields_of_version_1"]

Node = dict[str, Any]

FIELD_OF = {
    "n_features_in_": "n_features",
    "feature_names_in_": "feature_names",
    "input_shape_": "input_shape",
    "row_shape_": "row_shape",
    "graph_": "graph",
    "embedding_": "embedding",
    "history_": "history",
    "report_": "report",
    "rad_orig_": "rad_orig",
    "rad_emb_": "rad_emb",
    "encoder_": "encoder",
    "decoder_": "decoder",
    "reconstruction_loss_": "reconstruction_loss",
    "classifier_": "classifier",
    "classes_": "classes",
    "_landmarks": "landmarks",
    "_raw_data": "training",
    "_n_features_out": "n_components",
    "_is_supervised": "is_supervised",
}


def fields_of_version_1(
    attributes: Mapping[str, Node], parameters: Mapping[str, Node]
) -> dict[str, Node] | None:
    """Return the nodes of the fields of a fitted model; None for a model that was not fitted.

    ``_placed``, the positions of distinct rows, repeats ``embedding_`` but for ``unique=True``.
    There, a node ``{"rows of": ...}`` finds the distinct rows among all rows.
    """
    if "graph_" not in attributes:
        return None
    nodes = {field: attributes[name] for name, field in FIELD_OF.items() if name in attributes}
    nodes.setdefault("row_shape", nodes["input_shape"])
    if parameters.get("unique") == {"value": True} and "_placed" in attributes:
        nodes["first"] = {
            "first_equal": attributes["_placed"]["array"],
            "among": attributes["embedding_"]["array"],
        }
    return nodes

"""Files of neumap 0.1, which held the attributes of an estimator under their private names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neumap.estimators.saving.copies import settings_of

__all__ = ["of_version_1"]

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


def of_version_1(nodes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nodes of a model as today's files have them.

    ``_placed``, the positions of distinct rows, repeats ``embedding_`` except after
    ``unique=True``. There a node finds the distinct rows among all rows.
    """
    attributes, parameters = nodes["fitted"] or {}, nodes["parameters"]
    settings = settings_of(attributes)
    if "graph_" not in attributes:
        return {**nodes, "settings": settings, "fitted": None}
    fields = {field: attributes[name] for name, field in FIELD_OF.items() if name in attributes}
    if "input_shape" in fields:
        fields.setdefault("row_shape", fields["input_shape"])
    placed, embedding = attributes.get("_placed", {}), attributes.get("embedding_", {})
    if parameters.get("unique") == {"value": True} and "array" in placed and "array" in embedding:
        fields["distinct"] = {"first_equal": placed["array"], "among": embedding["array"]}
    return {**nodes, "settings": settings, "fitted": fields}

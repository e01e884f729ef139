"""A visualization method of FiftyOne's brain: new samples are placed by the network.

::

    import fiftyone.brain as fob
    from neumap.integrations.fiftyone import NeumapVisualizationConfig

    results = fob.compute_visualization(
        dataset, embeddings="clip", brain_key="map", method=NeumapVisualizationConfig, seed=0
    )
    results.add_samples(view)  # later, in any process

FiftyOne keeps the fitted reducer in its database, as a compressed pickle. The model that is handed
over has its networks only: no rows, no graph, no positions.

The two classes derive from FiftyOne's and are made when they are asked for, so that this module can
be imported without it. The environment variables
``FIFTYONE_BRAIN_VISUALIZATION_METHODS="*,neumap"`` and
``FIFTYONE_BRAIN_VISUALIZATION_NEUMAP_CONFIG_CLS="neumap.integrations.fiftyone.NeumapVisualizationConfig"``
make ``method="neumap"`` known.
"""

from __future__ import annotations

import copy
import importlib
from typing import Any

from neumap.estimators import ParametricUMAP

__all__ = ["without_rows"]  # and the two classes, which are made when they are asked for


def without_rows(model: ParametricUMAP) -> ParametricUMAP:
    """Return a copy of a fitted model that can transform new rows and holds nothing per row.

    Parameters
    ----------
    model : ParametricUMAP
        Fitted, with an encoder. It stays as it is.

    Returns
    -------
    ParametricUMAP
        With the same networks, without ``embedding_`` and ``graph_``.

    Raises
    ------
    ValueError
        If the model has no encoder.

    Examples
    --------
    >>> import pickle
    >>> from sklearn.datasets import load_digits
    >>> X = load_digits().data
    >>> model = ParametricUMAP(preset="fast", n_epochs=1, random_state=0).fit(X)
    >>> slim = without_rows(model)
    >>> bool((slim.transform(X[:5]) == model.transform(X[:5])).all())
    True
    >>> len(pickle.dumps(slim)) < len(pickle.dumps(model))
    True
    """
    fitted = model._model()
    if fitted.encoder is None:
        raise ValueError(
            "model must have an encoder to do without its rows, got one with free positions. Set "
            "parametric_embedding=True and fit again."
        )
    slim = copy.copy(model)
    # Not only the results: neighbours that were passed have a row each as well.
    slim.precomputed_knn = slim.reconstruction_validation = None
    slim._fitted = fitted.without_rows()
    return slim


def _classes() -> dict[str, Any]:
    """Return the two classes, derived from those of FiftyOne."""
    try:
        brain: Any = importlib.import_module("fiftyone.brain.visualization")
    except ModuleNotFoundError as error:
        raise ImportError(
            "This needs FiftyOne, which is not installed completely. Install it with: pip install "
            "fiftyone"
        ) from error

    class NeumapVisualizationConfig(brain.VisualizationConfig):
        """Configuration of ``NeumapVisualization``.

        Parameters
        ----------
        num_neighbors, metric, min_dist, seed, verbose
            As of FiftyOne's ``UMAPVisualizationConfig``.
        preset : {"fast", "default", "best"}, default="default"
            Size of the network.
        parameters : dict, optional
            Further parameters of :class:`neumap.ParametricUMAP` that JSON can hold.
        **kwargs
            Those of FiftyOne's ``VisualizationConfig``, such as `num_dims`.
        """

        def __init__(  # noqa: PLR0913 - FiftyOne passes settings by name
            self,
            num_neighbors: int = 15,
            metric: str = "euclidean",
            min_dist: float = 0.1,
            seed: int | None = None,
            verbose: bool = True,
            preset: str = "default",
            parameters: dict[str, Any] | None = None,
            **kwargs: Any,
        ) -> None:
            super().__init__(**kwargs)
            self.num_neighbors = num_neighbors
            self.metric = metric
            self.min_dist = min_dist
            self.seed = seed
            self.verbose = verbose
            self.preset = preset
            self.parameters = parameters

        @property
        def method(self) -> str:
            """Name of the method."""
            return "neumap"

    class NeumapVisualization(brain.Visualization):
        """Parametric UMAP, whose network places samples that are added later."""

        SUPPORTS_UPDATES = True

        def fit_reducer(self, embeddings: Any) -> tuple[Any, ParametricUMAP]:
            """Return the points of the embeddings, and a model that places others."""
            config: Any = self.config
            model = ParametricUMAP(
                n_components=config.num_dims,
                n_neighbors=config.num_neighbors,
                metric=config.metric,
                min_dist=config.min_dist,
                random_state=config.seed,
                verbose=config.verbose,
                preset=config.preset,
                **(config.parameters or {}),
            )
            return model.fit_transform(embeddings), without_rows(model)

    made = {"Config": NeumapVisualizationConfig, "": NeumapVisualization}
    for name, made_class in made.items():
        # FiftyOne stores the name of the class and finds the method by it.
        made_class.__qualname__ = f"NeumapVisualization{name}"
        made_class.__module__ = __name__
    return {f"NeumapVisualization{name}": made_class for name, made_class in made.items()}


def __getattr__(name: str) -> Any:
    if name not in ("NeumapVisualization", "NeumapVisualizationConfig"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals().update(_classes())
    return globals()[name]

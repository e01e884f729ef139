"""
Texts as TF-IDF
===============

A sparse matrix with thousands of columns and the cosine metric. The texts are the docstrings of
scikit-learn's own functions; the class is the module that they stand in.
"""

# %%
import importlib
import inspect

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from neumap import ParametricUMAP, metrics, plots

MODULES = ("cluster", "datasets", "ensemble", "linear_model", "metrics", "model_selection")
paragraphs = {}
for module in MODULES:
    package = importlib.import_module(f"sklearn.{module}")
    for name in sorted(package.__all__):
        # Paragraphs instead of whole docstrings, so that there are enough texts; each one once.
        for text in (inspect.getdoc(vars(package).get(name)) or "").split("\n\n"):
            if len(text.split()) >= 25:
                paragraphs.setdefault(text, (module, name))
texts = list(paragraphs)
modules, names = np.array(list(paragraphs.values())).T
print(len(texts), "paragraphs")

# %%
# The matrix stays sparse. With ``metric="cosine"`` neighbours and network both ignore the length of
# a row, and with it the length of a text.

X = TfidfVectorizer(stop_words="english", sublinear_tf=True, min_df=2).fit_transform(texts)
print(X.shape, f"{X.nnz / np.prod(X.shape):.2%} of the entries are not zero")
embedder = ParametricUMAP(metric="cosine", preset="fast", random_state=0)
Z = embedder.fit_transform(X)

ax = plots.points(Z, labels=modules)
ax.set_title("paragraphs of scikit-learn's docstrings")

# %%
# ``plots.interactive`` writes a page with the text under the cursor. The nearest neighbours of a
# paragraph on the map:

accuracy = metrics.knn_accuracy(Z, modules)
print(f"accuracy of 5-NN on the map: {accuracy:.3f}")
row = np.flatnonzero(names == "KMeans")[0]
nearest = np.argsort(np.linalg.norm(Z - Z[row], axis=1))[1:6]
print(f"near {names[row]}:", ", ".join(names[nearest]))

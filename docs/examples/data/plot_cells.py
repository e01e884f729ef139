"""
Counts of genes in cells
========================

Counts as a sequencer gives them, drawn along a tree of five branches: an AnnData, the usual
normalisation, principal components, and a map in ``obsm``. New cells land on it.
"""

# %%
# Each gene's logarithm walks at random along a branch; counts are drawn from it with a depth for
# each cell.

import anndata
import numpy as np
from matplotlib import pyplot as plt
from sklearn.decomposition import PCA

from neumap import plots
from neumap.scanpy import neumap

rng = np.random.default_rng(0)
PARENTS = (-1, 0, 0, 1, 1)
N_CELLS, N_GENES, N_KNOTS = 2000, 600, 20
courses = []
for parent in PARENTS:
    first = np.zeros(N_GENES) if parent < 0 else courses[parent][-1]
    active = rng.random(N_GENES) < 0.2
    steps = rng.normal(0.0, 0.4, size=(N_KNOTS, N_GENES)) * active
    courses.append(first + np.cumsum(steps, axis=0))
branch = rng.integers(len(PARENTS), size=N_CELLS)
knot = rng.integers(N_KNOTS, size=N_CELLS)
logs = rng.normal(-1.0, 1.0, size=N_GENES) + np.stack(courses)[branch, knot]
share = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
counts = rng.poisson(share * rng.lognormal(np.log(3000), 0.4, size=(N_CELLS, 1)))

cells = anndata.AnnData(counts.astype(np.float32))
cells.obs["branch"] = np.array([f"branch {number}" for number in branch])
print(cells)

# %%
# The usual steps: counts per 10,000, logarithm, principal components. A fifth of the cells is held
# out and gets the components of the others.

rates = np.log1p(1e4 * cells.X / cells.X.sum(axis=1, keepdims=True))
is_new = np.arange(N_CELLS) % 5 == 0
reference, query = cells[~is_new].copy(), cells[is_new].copy()
pca = PCA(30, random_state=0).fit(rates[~is_new])
reference.obsm["X_pca"] = pca.transform(rates[~is_new])
query.obsm["X_pca"] = pca.transform(rates[is_new])

model = neumap(reference, preset="fast", random_state=0)  # writes obsm["X_neumap"]
query.obsm["X_neumap"] = model.transform(query.obsm["X_pca"])
query.obs["neumap_confidence"] = model.confidence(query.obsm["X_pca"]).score

# %%
figure, panels = plt.subplots(1, 3, figsize=(14, 4.5), layout="constrained")
kinds = reference.obs["branch"].to_numpy()
plots.points(reference.obsm["X_neumap"], labels=kinds, ax=panels[0])
plots.points(reference.obsm["X_neumap"], values=knot[~is_new], ax=panels[1])
plots.points(query.obsm["X_neumap"], labels=query.obs["branch"].to_numpy(), ax=panels[2])
for ax, title in zip(panels, ("branches", "place along a branch", "new cells"), strict=True):
    ax.set_title(title)

# %%
print(f"new cells with a score below .05: {np.mean(query.obs['neumap_confidence'] < 0.05):.3f}")

"""
New cells on a published atlas
==============================

An atlas comes as an AnnData with a map in ``obsm["X_umap"]``, and nothing that could place other
cells on it. ``from_atlas`` learns the network from the principal components to this map, and
``place`` puts new cells there.
"""

# %%
# A stand-in for a published file: counts of twelve kinds of cells, normalised, with components and
# a map, as scanpy leaves them.

import anndata
import numpy as np
from matplotlib import pyplot as plt
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from neumap import UMAP, plots
from neumap.scanpy import from_atlas

rng = np.random.default_rng(0)
N_KINDS, N_CELLS, N_GENES = 12, 1500, 500
kind = rng.integers(N_KINDS, size=N_CELLS)
active = rng.random((N_KINDS, N_GENES)) < 0.08
logs = rng.normal(-1.0, 1.0, size=N_GENES) + active[kind] * rng.normal(0.6, 0.3, size=N_GENES)
share = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
counts = rng.poisson(share * rng.lognormal(np.log(2000), 0.4, size=(N_CELLS, 1)))
rates = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)

cells = anndata.AnnData(rates)
cells.obs["kind"] = np.array([f"kind {number}" for number in kind])
is_new = np.arange(N_CELLS) % 4 == 0
reference, query = cells[~is_new].copy(), cells[is_new].copy()
pca = PCA(20, random_state=0).fit(reference.X)
reference.varm["PCs"] = pca.components_.T
reference.obsm["X_pca"] = pca.transform(reference.X)
reference.obsm["X_umap"] = UMAP(random_state=0).fit_transform(reference.obsm["X_pca"])

# %%
# The genes of the query may come in another order: they are matched by name.

atlas = from_atlas(reference, basis="X_umap", use_rep="X_pca", preset="fast")
query = query[:, rng.permutation(N_GENES)].copy()
atlas.place(query)
print(query)

# %%
figure, panels = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
for ax, part, title in zip(
    panels, (reference, query), ("the published map", "new cells on it"), strict=True
):
    plots.points(part.obsm["X_umap"], labels=part.obs["kind"].to_numpy(), ax=ax)
    ax.set_title(title)
panels[1].set(xlim=panels[0].get_xlim(), ylim=panels[0].get_ylim())

# %%
# How good is that? Kinds of new cells, by their 15 neighbours on the map; and the same where a
# new cell is put at the mean place of its neighbours in the components.

by_map = KNeighborsClassifier(15).fit(reference.obsm["X_umap"], reference.obs["kind"])
accuracy = by_map.score(query.obsm["X_umap"], query.obs["kind"])
print(f"accuracy of 15-NN, placed by the atlas: {accuracy:.3f}")

components = pca.transform(cells[is_new].X)
near = NearestNeighbors(n_neighbors=15).fit(reference.obsm["X_pca"]).kneighbors(components)[1]
means = reference.obsm["X_umap"][near].mean(axis=1)
print(
    f"accuracy of 15-NN, at the mean of 15 neighbours: {by_map.score(means, query.obs['kind']):.3f}"
)

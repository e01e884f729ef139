"""
A branching process
===================

Branches in 40 dimensions, each of which begins on an earlier one, as in data of developing cells.
"""

# %%
import numpy as np
from matplotlib import pyplot as plt

from neumap import ParametricUMAP, metrics, plots

rng = np.random.default_rng(1)
N_BRANCHES, N_ROWS, N_FEATURES = 8, 250, 40
ends = [(np.zeros(N_FEATURES), np.zeros(N_FEATURES))]
rows, branch, time = [], [], []
times = [(0.0, 0.0)]
for number in range(N_BRANCHES):
    parent = rng.integers(max(number, 1)) if number else 0
    share = rng.uniform(0.6, 1.0)
    begin = ends[parent][0] + share * (ends[parent][1] - ends[parent][0])
    start = times[parent][0] + share * (times[parent][1] - times[parent][0])
    direction = rng.normal(size=N_FEATURES)
    length = rng.uniform(4.0, 8.0)
    end = begin + length * direction / np.linalg.norm(direction)
    ends = [(begin, end)] if number == 0 else [*ends, (begin, end)]
    times = [(start, start + length)] if number == 0 else [*times, (start, start + length)]
    t = rng.random((N_ROWS, 1))
    rows.append(begin + t * (end - begin))
    time.append(start + length * t[:, 0])
    branch.append(np.full(N_ROWS, number))
X = np.vstack(rows) + rng.normal(scale=0.08, size=(N_BRANCHES * N_ROWS, N_FEATURES))
branch, time = np.hstack(branch), np.hstack(time)

# %%
Z = ParametricUMAP(n_neighbors=20, preset="fast", random_state=0).fit_transform(X)

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
plots.points(Z, labels=branch, ax=left)
plots.points(Z, values=time, ax=right)
left.set_title("branches")
right.set_title("distance from the root along the tree")

# %%
print(f"held neighbours, of 15: {metrics.knn_recall(X, Z):.3f}")
print(f"triplets in their order: {metrics.random_triplet_accuracy(X, Z):.3f}")

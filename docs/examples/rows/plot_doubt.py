"""
Does this row belong on the map?
================================

A network gives a position to anything, also to a row unlike all training rows. ``confidence`` tells
them apart: its score is a p-value, near 0 for rows that are unlike the training rows.
"""

# %%
# The network never sees the digit 3. Afterwards it places rows of all classes.

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from neumap import ParametricUMAP, plots

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
known, novel = X[y != 3], X[y == 3]
train, usual, y_train, _ = train_test_split(known, y[y != 3], random_state=0)

embedder = ParametricUMAP(preset="fast", random_state=0).fit(train)
score_usual = embedder.confidence(usual).score
score_novel = embedder.confidence(novel).score

# %%
# The positions alone do not show it: the threes land in the clusters of other digits.

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
plots.points(embedder, labels=y_train, ax=left, alpha=0.3)
left.scatter(*embedder.transform(novel).T, s=14, c="black", marker="x", linewidths=0.8)
left.set_title("crosses: a digit that the network never saw")

bins = np.linspace(0, 1, 26)
right.hist(score_usual, bins, density=True, alpha=0.7, color="#375cd5", label="known digits")
right.hist(score_novel, bins, density=True, alpha=0.7, color="#b51c54", label="the unknown digit")
right.set(xlabel="score", yticks=[])
right.legend(frameon=False)
right.set_title("unseen rows by their score")

# %%
# A threshold of .05 flags about 5 % of ordinary rows by its definition.

is_novel = np.r_[np.zeros(len(usual)), np.ones(len(novel))]
area = roc_auc_score(is_novel, -np.r_[score_usual, score_novel])
print(f"area under the ROC curve: {area:.3f}")
print(f"flagged among known digits: {np.mean(score_usual < 0.05):.3f}")
print(f"flagged among the unknown digit: {np.mean(score_novel < 0.05):.3f}")

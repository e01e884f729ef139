"""
A few labels
============

Labels are expensive, data are cheap. Pass labels for some rows and -1 for the others. With
``classifier_loss_weight`` a classifier is trained together with the map, and the network learns
from the labels and from the structure of all rows.
"""

# %%
# Five labels of each class are kept.

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from neumap import ParametricUMAP, plots

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
X_train, X_new, y_train, y_new = train_test_split(X, y, stratify=y, random_state=0)

N_LABELS = 5
generator = np.random.default_rng(0)
labels = np.full(len(X_train), -1)
for digit in np.unique(y_train):
    rows = np.flatnonzero(y_train == digit)
    labels[generator.choice(rows, N_LABELS, replace=False)] = digit

embedder = ParametricUMAP(classifier_loss_weight=1.0, preset="fast", random_state=0)
embedding = embedder.fit_transform(X_train, labels)
accuracy = np.mean(embedder.predict(X_new) == y_new)

# %%
# The baseline: the same labels without the other rows.

few = labels != -1
alone = LogisticRegression().fit(X_train[few], labels[few])
print(f"test accuracy, labelled rows alone: {alone.score(X_new, y_new):.3f}")
print(f"test accuracy, with the map of all rows: {accuracy:.3f}")

# %%
colors = dict(zip(range(10), plots.THEMES["light"].palette, strict=False))
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 5), layout="constrained")
plots.points(embedding, ax=left, alpha=0.25, labels=np.full(len(labels), -1), show_legend=False)
plots.points(
    embedding[few], labels=labels[few], ax=left, point_size=40, color_key=colors, show_legend=False
)
plots.points(embedder.transform(X_new), labels=y_new, ax=right, color_key=colors)
left.set_title(f"training rows, {N_LABELS} labels per class")
right.set_title("unseen rows, true labels")

"""
Supervised maps
===============

Labels can act in two places. In the graph they weaken edges between classes. As targets of a
classifier on the map they train the network itself, and new rows follow. The two can be combined.
"""

# %%
# Wine: three cultivars, 13 measurements of each bottle. Columns have different units, so they are
# scaled first.

from matplotlib import pyplot as plt
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from neumap import ParametricUMAP, metrics, plots

wine = load_wine()
names = wine.target_names[wine.target]
X = StandardScaler().fit_transform(wine.data)
X_train, X_new, y_train, y_new = train_test_split(X, names, stratify=names, random_state=0)

# %%
ways = {
    "no labels": {},
    "labels in the graph": {"target_weight": 0.9},
    "and a classifier": {"target_weight": 0.9, "classifier_loss_weight": 1.0},
}
figure, panels = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
for ax, (title, settings) in zip(panels, ways.items(), strict=True):
    model = ParametricUMAP(preset="fast", random_state=0, **settings)
    Z = model.fit_transform(X_train, y_train if settings else None)
    Z_new = model.transform(X_new)
    plots.points(Z, labels=y_train, ax=ax, show_legend=ax is panels[-1])
    ax.scatter(*Z_new.T, s=22, facecolors="none", edgecolors="black", linewidths=0.7)
    ax.set_title(title)
    accuracy = metrics.knn_accuracy(Z, y_train, embedding_test=Z_new, labels_test=y_new)
    print(f"{title}, held-out 5-NN accuracy: {accuracy:.3f}")

# %%
# Rings are new bottles. The last model is a classifier to scikit-learn: it has ``predict``,
# ``predict_proba`` and ``score``.

print(f"held-out accuracy of predict: {model.score(X_new, y_new):.3f}")
print(model.classes_, model.predict_proba(X_new[:2]).round(2).tolist())

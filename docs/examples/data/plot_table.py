"""
A table, in a pipeline
======================

Columns of different units: a pandas table, a scaler, and a map, in one scikit-learn pipeline that
places new rows and keeps names of columns.
"""

# %%
# Measurements of 569 tumours.

from matplotlib import pyplot as plt
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neumap import ParametricUMAP, plots

data = load_breast_cancer(as_frame=True)
kind = data.target.map(dict(enumerate(data.target_names)))
train, new, kind_train, kind_new = train_test_split(data.data, kind, random_state=0)

pipeline = make_pipeline(StandardScaler(), ParametricUMAP(preset="fast", random_state=0))
pipeline.set_output(transform="pandas")
Z = pipeline.fit_transform(train)
Z_new = pipeline.transform(new)
Z_new.head()
print(Z_new.head())

# %%
# The same map, coloured by the class and by a column.

figure, panels = plt.subplots(1, 3, figsize=(14, 4.5), layout="constrained")
plots.points(Z, labels=kind_train, ax=panels[0])
plots.points(Z, values=train["mean area"], ax=panels[1])
plots.points(Z_new, labels=kind_new, ax=panels[2])
for ax, title in zip(panels, ("kind", "mean area", "new rows"), strict=True):
    ax.set_title(title)

# %%
# Which details can be trusted? Colour by the share of a row's neighbours that the map keeps.

scaled = pipeline[0].transform(train)
ax = plots.diagnostic(Z.to_numpy(), scaled.to_numpy(), kind="neighborhood")

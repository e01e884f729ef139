"""
Patches of two photographs
==========================

Small colour images, embedded by a convolutional network (``encoder="conv"``): patches of the two
photographs that come with scikit-learn. The map itself is drawn with the patches.
"""

# %%
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from sklearn.datasets import load_sample_images
from sklearn.feature_extraction.image import extract_patches_2d

from neumap import ParametricUMAP, plots

SIDE = 16
photographs = load_sample_images().images
patches = np.concatenate(
    [
        extract_patches_2d(image, (SIDE, SIDE), max_patches=700, random_state=0)
        for image in photographs
    ]
)
X = (patches / 255).astype(np.float32)  # (1400, 16, 16, 3)
source = np.repeat(["temple", "flower"], 700)

figure, panels = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
for ax, image in zip(panels, photographs, strict=True):
    ax.imshow(image)
    ax.axis("off")

# %%
# Images are passed as they are, (height, width, channels) in each row.

embedder = ParametricUMAP(encoder="conv", preset="fast", random_state=0)
Z = embedder.fit_transform(X)
ax = plots.points(Z, labels=source)

# %%
# The same map with every patch at its place; a patch is left out where another is already drawn.

# sphinx_gallery_thumbnail_number = 3
figure, ax = plt.subplots(figsize=(8, 8), layout="constrained")
ax.set(xlim=(Z[:, 0].min(), Z[:, 0].max()), ylim=(Z[:, 1].min(), Z[:, 1].max()))
ax.axis("off")
apart = np.ptp(Z, axis=0).max() / 34
drawn: list[int] = []
for row in range(len(Z)):
    if all(np.abs(Z[row] - Z[other]).max() > apart for other in drawn):
        drawn.append(row)
        ax.add_artist(AnnotationBbox(OffsetImage(X[row], zoom=1.0), Z[row], frameon=False))
print(f"{len(drawn)} of {len(Z)} patches are drawn")

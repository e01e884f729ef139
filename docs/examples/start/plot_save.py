"""
Save, load, and export to ONNX
==============================

``save`` writes one file with everything that ``transform`` and ``inverse_transform`` need, without
the training rows. Loading runs no code from the file. ``to_onnx`` exports the network alone, for
programs without neumap, PyTorch or Python.
"""

# %%
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits

import neumap
from neumap import ParametricUMAP, plots

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
X_train, X_new, y_new = X[:1300], X[1300:], y[1300:]
embedder = ParametricUMAP(preset="fast", random_state=0).fit(X_train)
placed = embedder.transform(X_new)

# %%
# A loaded model gives the same numbers, bit for bit. The exported network is compared with the
# model before its file is kept; here it also runs by itself, in onnxruntime.

with TemporaryDirectory() as folder:
    file = embedder.save(Path(folder, "digits.neumap"))
    loaded = neumap.load(file)
    placed_by_loaded = loaded.transform(X_new)
    print(f"largest difference after loading: {np.abs(placed_by_loaded - placed).max():.1f}")
    print(f"size of the file in MB: {file.stat().st_size / 1e6:.2f}")

    network = embedder.to_onnx(Path(folder, "digits.onnx"))
    session = onnxruntime.InferenceSession(network)
    (placed_by_onnx,) = session.run(None, {"X": X_new})
    print(f"largest difference in onnxruntime: {np.abs(placed_by_onnx - placed).max():.6f}")
    print(f"size of the ONNX file in MB: {network.stat().st_size / 1e6:.2f}")

# %%
figure, panels = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
maps = {"fitted": placed, "loaded": placed_by_loaded, "in onnxruntime": placed_by_onnx}
for ax, (title, positions) in zip(panels, maps.items(), strict=True):
    plots.points(positions, labels=y_new, ax=ax, show_legend=ax is panels[-1])
    ax.set_title(title)

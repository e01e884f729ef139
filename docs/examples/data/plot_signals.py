"""
Sounds as spectrograms
======================

Short tones, sweeps, pulses and noise, as sequences of spectra. A network with convolutions along
time reads them; the neighbours are those of the spectrograms.
"""

# %%
# A quarter of a second at 4,000 samples per second, with pitch, loudness and start at random.

import numpy as np
import torch
from matplotlib import pyplot as plt
from scipy.signal import ShortTimeFFT
from torch import nn

from neumap import ParametricUMAP, metrics, plots

RATE, N_SAMPLES = 4000, 1000
rng = np.random.default_rng(0)
time = np.arange(N_SAMPLES) / RATE


def sound(kind: str) -> np.ndarray:
    """Return one sound of a kind, with some noise."""
    pitch, start = rng.uniform(200, 900), rng.uniform(0, 0.06)
    shape = np.exp(-(((time - start - 0.09) / 0.06) ** 2))
    if kind == "rising":
        wave = np.sin(2 * np.pi * (pitch * time + 2500 * time**2))
    elif kind == "falling":
        wave = np.sin(2 * np.pi * ((pitch + 900) * time - 2500 * time**2))
    elif kind == "chord":
        wave = sum(np.sin(2 * np.pi * pitch * ratio * time) for ratio in (1, 1.26, 1.5)) / 2
    elif kind == "pulses":
        wave = np.sign(np.sin(2 * np.pi * 30 * time)) * np.sin(2 * np.pi * pitch * time)
    elif kind == "hiss":
        wave = rng.normal(size=N_SAMPLES)
    else:
        wave = np.sin(2 * np.pi * pitch * time)
    return shape * wave + 0.05 * rng.normal(size=N_SAMPLES)


KINDS = ("tone", "rising", "falling", "chord", "pulses", "hiss")
kind = np.repeat(KINDS, 200)
waves = np.array([sound(name) for name in kind])

transform = ShortTimeFFT(np.hanning(128), hop=32, fs=RATE, mfft=128)
power = transform.spectrogram(waves)[:, :, 2:-2]  # (n_sounds, n_frequencies, n_times)
X = np.log(power + 1e-6).astype(np.float32)
X -= X.mean()
print(X.shape)

# %%
figure, panels = plt.subplots(1, 6, figsize=(13, 2.6), layout="constrained")
for ax, name in zip(panels, KINDS, strict=True):
    ax.imshow(X[kind == name][0], origin="lower", aspect="auto", cmap="magma")
    ax.set(title=name, xticks=[], yticks=[])

# %%
# Frequencies are the channels of a one-dimensional convolution. A third of the sounds is held out.

torch.manual_seed(0)
encoder = nn.Sequential(
    nn.Conv1d(X.shape[1], 48, kernel_size=5, padding=2),
    nn.ReLU(),
    nn.Conv1d(48, 48, kernel_size=3, padding=1),
    nn.ReLU(),
    nn.Flatten(),
    nn.LazyLinear(64),
    nn.ReLU(),
    nn.Linear(64, 2),
)
is_new = np.arange(len(X)) % 3 == 0
embedder = ParametricUMAP(encoder=encoder, preset="fast", random_state=0)
Z = embedder.fit_transform(X[~is_new])
Z_new = embedder.transform(X[is_new])

# sphinx_gallery_thumbnail_number = 2
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 5), layout="constrained")
plots.points(Z, labels=kind[~is_new], ax=left, show_legend=False)
plots.points(Z_new, labels=kind[is_new], ax=right)
left.set_title("sounds trained on")
right.set_title("new sounds")

# %%
accuracy = metrics.knn_accuracy(Z, kind[~is_new], embedding_test=Z_new, labels_test=kind[is_new])
print(f"held-out 5-NN accuracy: {accuracy:.3f}")

"""9. Saving and ONNX.

`save` writes one file with everything that `transform` and `inverse_transform` need, without the
training data. Loading runs no code from the file. `to_onnx` exports only the network, for programs
without neumap or PyTorch. pickle, joblib and copy.deepcopy work too.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from drawing import draw_maps
from images import begin

from neumap import ParametricUMAP, load_ParametricUMAP

images, options = begin(__doc__)

embedder = ParametricUMAP(preset=options.preset, random_state=0)
embedder.fit(images.train)
placed = embedder.transform(images.test)

with TemporaryDirectory() as folder:
    file = embedder.save(Path(folder, "digits.neumap"))
    print(f"size of the file in MB: {file.stat().st_size / 1e6:.2f}")

    loaded = load_ParametricUMAP(file)
    placed_by_loaded = loaded.transform(images.test)
    print(f"largest difference after loading: {np.abs(placed_by_loaded - placed).max():.1f}")

    # If onnxruntime is installed, the exported file is compared with the network.
    network = embedder.to_onnx(Path(folder, "digits.onnx"))
    print(f"size of the ONNX file in MB: {network.stat().st_size / 1e6:.2f}")

draw_maps(
    options.figures / "09_saving.png",
    {
        "the model that was fitted": (placed, images.test_labels),
        "the model read from the file": (placed_by_loaded, images.test_labels),
    },
    same_axes=True,
)

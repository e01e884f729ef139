"""A saved map by NumPy alone: ``transform`` and ``inverse_transform`` on a server without torch.

:func:`load` reads a file of :meth:`neumap.ParametricUMAP.save` with the checks of
:func:`neumap.load` and evaluates the networks of the package, which are multilayer perceptrons. For
other networks it takes the ONNX files of ``to_onnx``, and onnxruntime. Nothing here, and nothing it
imports, needs torch, SciPy, scikit-learn, pandas or faiss, so that a server needs two packages
only::

    pip install --no-deps neumap
    pip install numpy
"""

from neumap.runtime.model import Model, load

__all__ = ["Model", "load"]

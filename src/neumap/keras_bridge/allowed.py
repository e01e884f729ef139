"""What the configuration of a Keras object may name: a fixed list, and what the caller passes.

Keras's safe mode refuses lambdas and a few public functions. Any other function of Keras can still
be named and is called when the model is built: it may write a file, read one or start a download.
Layers such as ``Lambda``, ``TFSMLayer`` and ``TextVectorization`` do so by their arguments. Here
only layers and functions that compute are on the list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from neumap.archive import ArchiveError
from neumap.keras_bridge.backend import keras_on_torch

__all__ = ["check_config", "names_own_objects", "registered_names"]

LAYERS = """
InputLayer Dense EinsumDense Embedding Identity Activation ActivityRegularization Masking
ReLU LeakyReLU PReLU ELU Softmax
Conv1D Conv2D Conv3D Conv1DTranspose Conv2DTranspose Conv3DTranspose
DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D
MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D AveragePooling2D AveragePooling3D
GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D
BatchNormalization LayerNormalization GroupNormalization UnitNormalization RMSNormalization
Normalization SpectralNormalization Rescaling Resizing CenterCrop
Dropout AlphaDropout GaussianDropout GaussianNoise
SpatialDropout1D SpatialDropout2D SpatialDropout3D
Add Average Concatenate Dot Maximum Minimum Multiply Subtract
Flatten Permute RepeatVector Reshape
Cropping1D Cropping2D Cropping3D UpSampling1D UpSampling2D UpSampling3D
ZeroPadding1D ZeroPadding2D ZeroPadding3D
AdditiveAttention Attention GroupQueryAttention MultiHeadAttention
GRU GRUCell LSTM LSTMCell RNN SimpleRNN SimpleRNNCell StackedRNNCells
ConvLSTM1D ConvLSTM2D ConvLSTM3D Bidirectional TimeDistributed
RandomBrightness RandomContrast RandomCrop RandomFlip RandomRotation RandomTranslation RandomZoom
"""
INITIALIZERS = """
Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity LecunNormal LecunUniform Ones
Orthogonal RandomNormal RandomUniform TruncatedNormal VarianceScaling Zeros
"""
OPTIMIZERS = """
Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lamb Lion LossScaleOptimizer Muon Nadam RMSprop
SGD
"""
LOSSES = """
BinaryCrossentropy BinaryFocalCrossentropy CategoricalCrossentropy CategoricalFocalCrossentropy
CategoricalHinge CosineSimilarity Dice Hinge Huber KLDivergence LogCosh MeanAbsoluteError
MeanAbsolutePercentageError MeanSquaredError MeanSquaredLogarithmicError Poisson
SparseCategoricalCrossentropy SquaredHinge Tversky
"""
FUNCTIONS = """
celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu
linear log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus
softsign sparse_plus sparse_sigmoid sparsemax squareplus swish tanh tanh_shrink threshold
binary_crossentropy binary_focal_crossentropy categorical_crossentropy
categorical_focal_crossentropy categorical_hinge cosine_similarity dice hinge huber kl_divergence
log_cosh mean_absolute_error mean_absolute_percentage_error mean_squared_error
mean_squared_logarithmic_error poisson sparse_categorical_crossentropy squared_hinge tversky
"""
SCHEDULES = """
CosineDecay CosineDecayRestarts ExponentialDecay InverseTimeDecay PiecewiseConstantDecay
PolynomialDecay
"""

# By the module that Keras writes.
CLASSES: dict[str, frozenset[str]] = {
    module: frozenset(names.split())
    for module, names in {
        "keras": "Sequential DTypePolicy",
        "keras.models": "Sequential",
        "keras.src.models.sequential": "Sequential",
        "keras.src.models.functional": "Functional",
        "keras.layers": LAYERS,
        "keras.initializers": INITIALIZERS,
        "keras.regularizers": "L1 L1L2 L2 OrthogonalRegularizer",
        "keras.constraints": "MaxNorm MinMaxNorm NonNeg UnitNorm",
        "keras.losses": LOSSES,
        "keras.optimizers": OPTIMIZERS,
        "keras.optimizers.schedules": SCHEDULES,
        "keras.dtype_policies": "DTypePolicy",
        "keras.random": "SeedGenerator",
    }.items()
}
# Optimizers of the torch backend have modules of their own.
TORCH_OPTIMIZERS = re.compile(r"keras\.src\.backend\.torch\.optimizers\.torch_[a-z]+")
# Every operation of these computes from tensors and numbers alone.
OPERATIONS = frozenset(f"keras.src.ops.{room}" for room in ("numpy", "nn", "math", "linalg"))
FUNCTION_NAMES = frozenset(FUNCTIONS.split())
FUNCTION_MODULES = frozenset({"builtins", "keras.activations", "keras.losses"})

# Values that Keras writes as objects.
VALUES = frozenset({"__keras_tensor__", "__tensor__", "__numpy__", "__slice__", "__ellipsis__"})
DTYPES = frozenset(
    f"{kind}{bits}"
    for kind, sizes in {"float": (16, 32, 64), "int": (8, 16, 32, 64), "uint": (8, 16, 32)}.items()
    for bits in sizes
) | {"bfloat16", "bool"}


def check_config(config: object, own: Mapping[str, Any], where: str) -> None:
    """Raise if a configuration names a class or function that is neither listed nor the caller's.

    Nothing is built, imported or called.

    Parameters
    ----------
    config : object
        What ``keras.saving.serialize_keras_object`` returned, or the JSON of a ``.keras`` file.
    own : mapping of str to class or function
        The caller's own objects by name.
    where : str
        What is checked, such as ``"encoder"``, for the message.

    Raises
    ------
    ArchiveError
        Naming the first class or function that is not known.
    """
    passed = {**own, **_in_scope()}
    for value in _inside(config):
        if isinstance(value, str):
            _check_text(value, passed, where)
        elif isinstance(value, dict) and "class_name" in value:
            _check_object(value, passed, where)


def names_own_objects(config: object, own: Mapping[str, Any]) -> bool:
    """Return whether a checked configuration names objects that are not Keras's own."""
    return any(
        isinstance(value, dict)
        and "class_name" in value
        and _named_object(value, {**own, **_in_scope()}) is not None
        for value in _inside(config)
    )


def registered_names(config: object) -> dict[str, Any]:
    """Return what a configuration names of the objects that were registered with Keras."""
    texts = {value for value in _inside(config) if isinstance(value, str)}
    return {name: known for name, known in _registered().items() if name in texts}


def _inside(config: object) -> Iterator[object]:
    """Yield a value and everything inside it, without recursion."""
    waiting = [config]
    while waiting:
        value = waiting.pop()
        yield value
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value


def _check_object(node: dict[str, Any], passed: Mapping[str, Any], where: str) -> None:
    class_name, config = node["class_name"], node.get("config")
    if not isinstance(class_name, str) or "config" not in node:
        raise _unknown(f"an object without class or config: {node!r:.100}", where)
    if class_name in VALUES:
        _check_value(class_name, config, where)
        return
    found = _named_object(node, passed)
    if found is not None:
        if not any(found is known for known in passed.values()):
            raise _unknown(_shown_name(node), where)
        return
    if not _is_listed(node):
        raise _unknown(_shown_name(node), where)


def _is_listed(node: dict[str, Any]) -> bool:
    module, class_name, config = node.get("module"), node["class_name"], node["config"]
    if not isinstance(module, str):
        return False
    if class_name == "function":
        return module in FUNCTION_MODULES and config in FUNCTION_NAMES
    if not isinstance(config, dict):
        return False
    if module in OPERATIONS:
        return _is_operation(module, class_name)
    if TORCH_OPTIMIZERS.fullmatch(module):
        return class_name in CLASSES["keras.optimizers"]
    return class_name in CLASSES.get(module, ())


def _is_operation(module: str, name: str) -> bool:
    """Return whether a module of Keras defines an operation of this name."""
    ops: Any = keras_on_torch().src.ops
    room = getattr(ops, module.rpartition(".")[2], None)
    found = getattr(room, name, None)
    bases = found.__mro__ if isinstance(found, type) and found.__module__ == module else ()
    return any(base.__name__ == "Operation" for base in bases)


def _check_value(class_name: str, config: object, where: str) -> None:
    if not isinstance(config, dict):
        raise _unknown(f"{class_name} without a config", where)
    if "dtype" in config and config["dtype"] not in DTYPES:
        raise _unknown(f"the dtype {config['dtype']!r:.100}", where)


def _check_text(text: str, passed: Mapping[str, Any], where: str) -> None:
    """Refuse the name of an object that some other package registered with Keras.

    Keras replaces any text that is such a name by the object.
    """
    registered = _registered().get(text)
    if registered is not None and not any(registered is known for known in passed.values()):
        raise _unknown(text, where)


def _named_object(node: dict[str, Any], passed: Mapping[str, Any]) -> object:
    """Return what Keras would take for the name of an object that is not its own, or None."""
    class_name = node["class_name"]
    name = node["config"] if class_name == "function" else node.get("registered_name", class_name)
    if not isinstance(name, str):
        return None
    for known in (_in_scope(), _registered(), passed):  # in Keras's order
        if name in known:
            return known[name]
    return None


def _in_scope() -> dict[str, Any]:
    """Return the objects of ``keras.saving.custom_object_scope``, which the caller passed too."""
    keras_on_torch()  # chooses the backend if Keras has not been imported
    from keras.src.backend.common import global_state

    return dict(global_state.get_global_attribute("custom_objects_scope_dict", {}) or {})


def _registered() -> Mapping[str, Any]:
    registered: Mapping[str, Any] = keras_on_torch().saving.get_custom_objects()
    return registered


def _shown_name(node: dict[str, Any]) -> str:
    name = node["config"] if node["class_name"] == "function" else node["class_name"]
    return f"{node.get('module')}.{name}"


def _unknown(what: str, where: str) -> ArchiveError:
    return ArchiveError(
        f"Classes and functions of the file's {where} must be layers of Keras that only compute, "
        f"or be in classes, got {what:.200}. Pass classes=[...] with your own."
    )

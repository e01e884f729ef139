"""Layers of Keras computed by one operation of torch, against Keras's own computation."""

from __future__ import annotations

import copy
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")
if keras.config.backend() != "torch":
    pytest.skip("Keras runs on another backend here", allow_module_level=True)

from neumap import ParametricUMAP  # noqa: E402 - after the choice above
from neumap.data import DenseRows  # noqa: E402
from neumap.keras_bridge import KerasModule, copy_keras  # noqa: E402
from neumap.keras_bridge import module as module_room  # noqa: E402
from neumap.keras_bridge.direct import indifferent, keeping_bfloat16  # noqa: E402
from neumap.losses import Kernel  # noqa: E402
from neumap.losses.terms import UmapTerm  # noqa: E402
from neumap.training import EncoderEmbedder, precision  # noqa: E402
from neumap.training.precision import LARGEST_DIFFERENCE, VerifiedStep, choose_precision  # noqa: E402
from neumap.training.steps import choose_step  # noqa: E402

# keras imports and compares numpy's deprecated spellings in some versions
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras.*")

layers = keras.layers
LINE, IMAGE = (9, 4), (8, 9, 4)

SERVED: dict[str, tuple[Any, tuple[int, ...]]] = {
    "dense": (lambda: layers.Dense(3, "relu"), (5,)),
    "dense of lines": (lambda: layers.Dense(3, "tanh"), LINE),
    "dense without bias": (lambda: layers.Dense(3, use_bias=False), (5,)),
    "images, same": (lambda: layers.Conv2D(6, 3, activation="relu", padding="same"), IMAGE),
    "images, valid": (lambda: layers.Conv2D(6, (2, 3), activation="relu"), IMAGE),
    "stride, more zeros after": (lambda: layers.Conv2D(6, 3, 2, "same", activation="relu"), IMAGE),
    "even kernel": (lambda: layers.Conv2D(6, (4, 2), padding="same"), IMAGE),
    "longer stride than kernel": (lambda: layers.Conv2D(6, 2, 3, "same"), IMAGE),
    "dilated": (lambda: layers.Conv2D(6, 3, padding="same", dilation_rate=(2, 1)), IMAGE),
    "groups": (lambda: layers.Conv2D(6, 3, 2, "same", groups=2), IMAGE),
    "activation over channels": (lambda: layers.Conv2D(6, 3, activation="softmax"), IMAGE),
    "no bias": (lambda: layers.Conv2D(6, 3, use_bias=False, activation="relu"), IMAGE),
    "one channel": (lambda: layers.Conv2D(6, 3, 2, "same", activation="relu"), (8, 8, 1)),
    "lines, same": (lambda: layers.Conv1D(6, 3, activation="relu", padding="same"), LINE),
    "lines, stride": (lambda: layers.Conv1D(6, 4, 2, "same", activation="relu"), LINE),
    "lines, activation": (lambda: layers.Conv1D(6, 3, activation="softmax"), LINE),
    "largest of images": (lambda: layers.MaxPooling2D((2, 3)), IMAGE),
    "largest of lines": (lambda: layers.MaxPooling1D(3, 2), LINE),
    "means of images": (lambda: layers.AveragePooling2D(2), IMAGE),
    "means of lines": (lambda: layers.AveragePooling1D(2), LINE),
    "nearest": (lambda: layers.UpSampling2D((3, 2)), IMAGE),
}
LEFT: dict[str, tuple[Any, tuple[int, ...]]] = {
    "causal": (lambda: layers.Conv1D(6, 3, padding="causal"), LINE),
    "padded pooling": (lambda: layers.MaxPooling2D(2, padding="same"), (7, 9, 4)),
    "bilinear": (lambda: layers.UpSampling2D(2, interpolation="bilinear"), IMAGE),
    "channels first": (lambda: layers.Conv2D(6, 3, data_format="channels_first"), IMAGE),
}


class Doubled(layers.Dense):
    """A class of the user with a ``call`` of its own."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return 2.0 * super().call(inputs)


def model_of(layer: Any, shape: tuple[int, ...], *others: Any) -> Any:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(shape), layer, *others])
    for variable in model.weights:  # biases are zero at first
        variable.assign(variable.value + 0.1 * torch.randn(tuple(variable.shape)))
    return model


def gradients(network: Any, variables: list[Any], rows: Tensor) -> list[Tensor]:
    """Return the output, and the gradients of rows and variables for a random weight each."""
    seen = rows.clone().requires_grad_(True)
    output = network(seen)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    (output.float() * weights).sum().backward()
    grads = [seen.grad, *(variable.value.grad for variable in variables)]
    assert all(grad is not None for grad in grads)
    return [output.detach(), *[grad for grad in grads if grad is not None]]


def spots(n_rows: int) -> np.ndarray:
    """Images of 14 x 14 with a bright spot somewhere."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(2, 12, (2, n_rows, 1, 1))
    grid = np.arange(14)
    bright = np.exp(-((grid[:, None] - x) ** 2 + (grid[None] - y) ** 2) / 4)
    return bright[..., None].astype(np.float32)


def some_rows(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(5, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", [*SERVED, *LEFT])
def test_values_and_gradients_are_those_of_keras(name: str) -> None:
    make, shape = (SERVED | LEFT)[name]
    model = model_of(make(), shape)
    module = KerasModule(model, shape)
    (layer,) = module.model.layers
    assert ("call" in vars(layer)) == (name in SERVED)
    rows = some_rows(shape)
    expected = gradients(model, model.weights, rows)
    found = gradients(module, module.model.weights, rows)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-4)
    assert module.output_shape == tuple(model.output_shape[1:])


@pytest.mark.parametrize("shape", [(5,), LINE, IMAGE, (2, 3, 4, 5)])
@pytest.mark.parametrize("settings", [{}, {"scale": False, "momentum": 0.8}, {"center": False}])
@pytest.mark.parametrize("training", [True, False])
def test_batch_normalisation_is_that_of_keras(
    shape: tuple[int, ...], settings: dict[str, Any], training: bool
) -> None:
    layer = layers.BatchNormalization(**settings)
    model = model_of(layer, shape)
    layer.moving_variance.assign(torch.rand(shape[-1]) + 0.5)
    module = KerasModule(model, shape).train(training)
    assert "call" in vars(module.model.layers[0])
    for seed in range(2):
        rows = 3.0 + torch.randn(5, *shape, generator=torch.Generator().manual_seed(seed))
        expected = gradients(lambda x: model(x, training=training), model.trainable_weights, rows)
        found = gradients(module, module.model.trainable_weights, rows)
        for mine, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    for mine, theirs in zip(module.model.weights, model.weights, strict=True):
        torch.testing.assert_close(mine.value, theirs.value, rtol=1e-5, atol=1e-5)


def test_batch_normalisation_that_is_frozen_or_over_another_axis() -> None:
    frozen = model_of(layers.BatchNormalization(trainable=False), IMAGE)
    module, rows = KerasModule(frozen, IMAGE).train(), some_rows(IMAGE)
    torch.testing.assert_close(module(rows), frozen(rows, training=True))
    other = model_of(layers.BatchNormalization(axis=1), IMAGE)
    module = KerasModule(other, IMAGE).train()
    torch.testing.assert_close(module(rows), other(rows, training=True))


def test_a_single_value_is_normalised_as_in_keras() -> None:
    model = model_of(layers.BatchNormalization(), (5,))
    module, row = KerasModule(model, (5,)).train(), some_rows((5,))[:1]
    torch.testing.assert_close(module(row), model(row, training=True))


def test_derived_classes_compute_what_they_say() -> None:
    model = model_of(Doubled(3), (5,))
    module = KerasModule(model, (5,))
    assert "call" not in vars(module.model.layers[0])
    torch.testing.assert_close(module(some_rows((5,))), model(some_rows((5,))))


def test_weights_of_an_adapter_count() -> None:
    """Those of LoRA make the kernel a sum, not a variable."""
    layer = layers.Dense(3, "relu")
    model = model_of(layer, (5,))
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(torch.ones(2, 3))
    module = KerasModule(model, (5,))
    torch.testing.assert_close(module(some_rows((5,))), model(some_rows((5,))))


def test_a_policy_of_the_model_acts() -> None:
    layer = layers.Conv2D(6, 3, 2, "same", activation="relu", dtype="mixed_bfloat16")
    model = model_of(layer, IMAGE)
    module = KerasModule(model, IMAGE)
    found, expected = module(some_rows(IMAGE)), model(some_rows(IMAGE))
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


def test_the_model_that_was_given_computes_as_before() -> None:
    model = model_of(layers.Dense(3), (5,))
    KerasModule(model, (5,))
    assert "call" not in vars(model.layers[0])


@pytest.mark.parametrize(
    "copied",
    [
        lambda module: copy_keras(module.model),
        lambda module: copy.deepcopy(module).model,
        lambda module: KerasModule.from_bytes(module.to_bytes()).model,
    ],
)
def test_copies_compute_with_their_own_weights(copied: Any) -> None:
    module = KerasModule(model_of(layers.Dense(3), (5,)), (5,))
    rows = some_rows((5,))
    before = module(rows)
    copy_of_it = copied(module)
    copy_of_it.layers[0].kernel.assign(torch.zeros(5, 3))
    copy_of_it.layers[0].bias.assign(torch.ones(3))
    assert torch.equal(copy_of_it(rows), torch.ones(5, 3))
    assert torch.equal(module(rows), before)


def test_a_saved_model_is_that_of_keras(tmp_path: Path) -> None:
    model = model_of(layers.Conv2D(6, 3, 2, "same", activation="relu"), IMAGE, layers.Flatten())
    module = KerasModule(model, IMAGE)
    model.save(tmp_path / "model.keras")
    (tmp_path / "ours.keras").write_bytes(module.to_bytes())
    configs = []
    for name in ("model.keras", "ours.keras"):
        with zipfile.ZipFile(tmp_path / name) as archive:
            text = archive.read("config.json").decode()
        configs.append(re.sub(r'"shared_object_id": \d+', "", text))  # addresses in memory
    assert configs[0] == configs[1]
    loaded = keras.models.load_model(tmp_path / "ours.keras")
    assert "call" not in vars(loaded.layers[0])
    torch.testing.assert_close(loaded(some_rows(IMAGE)), module(some_rows(IMAGE)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fit_ends_in_the_map_of_keras(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "fast_dtype", lambda device: dtype)
    X, maps = spots(96), []
    model = model_of(
        layers.Conv2D(16, 3, 2, "same", activation="relu"),
        (14, 14, 1),
        layers.Conv2D(32, 3, 2, "same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(64, "relu"),
        layers.Dense(2),
    )
    for _ in range(2):
        fitted = ParametricUMAP(
            encoder=model,
            n_neighbors=5,
            n_epochs=5,
            optimizer=lambda p: torch.optim.SGD(p, lr=0.1),  # Adam makes steps of rounding errors
            random_state=0,
            device="cpu",
        ).fit(X)
        assert fitted.report_["precision"] == str(dtype).removeprefix("torch.")
        maps.append(fitted.embedding_)
        monkeypatch.setattr(module_room, "compute_directly", lambda layers: None)
        monkeypatch.setattr(module_room, "indifferent", lambda layers: [])
    difference = np.abs(maps[0] - maps[1]).max() / np.ptp(maps[1])
    assert 0.0 < difference < (1e-5 if dtype == torch.float32 else 0.1)


@pytest.mark.parametrize("shape", [(8, 8, 1), LINE, (6,)])
def test_networks_can_be_exported_with_any_number_of_rows(shape: tuple[int, ...]) -> None:
    convolutions = {
        3: (layers.Conv2D(4, 3, 2, "same", activation="relu"), layers.MaxPooling2D()),
        2: (layers.Conv1D(4, 3, 2, "same", activation="relu"), layers.MaxPooling1D()),
    }
    body = (layers.BatchNormalization(), *convolutions.get(len(shape), ()), layers.Flatten())
    model = keras.Sequential([keras.Input(shape), *body, layers.Dense(2)])
    module = KerasModule(model, shape).eval()
    with torch.no_grad():
        rows = (some_rows(shape),)
        open_rows = ({0: torch.export.Dim("batch")},)
        exported = torch.export.export(module, rows, dynamic_shapes=open_rows).module()
        more = torch.randn(11, *shape)
        torch.testing.assert_close(exported(more), module(more))


# ---- bfloat16 ----


@pytest.fixture
def _bfloat16_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "fast_dtype", lambda device: torch.bfloat16)


def conv_net(*middle: Any) -> KerasModule:
    """Strides of 2 on odd sides: as many zeros before as after."""
    first = layers.Conv2D(16, 3, 2, "same", activation="relu")
    second = layers.Conv2D(32, 3, 2, "same", activation="relu")
    tail = (layers.Flatten(), layers.Dense(64, "relu"), layers.Dense(2))
    return KerasModule(model_of(first, (13, 13, 1), *middle, second, *tail), (13, 13, 1))


class Copies(TorchDispatchMode):
    """Collects the dtypes of the large tensors that are copied."""

    def __init__(self, smallest: int) -> None:
        super().__init__()
        self.smallest = smallest
        self.found: list[torch.dtype] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        is_copy = any(name in str(func) for name in ("_to_copy", "clone", "copy_"))
        if is_copy and result.numel() >= self.smallest:
            self.found.append(result.dtype)
        return result


@pytest.mark.usefixtures("_bfloat16_machine")
def test_in_bfloat16_activations_are_never_copied() -> None:
    """Neither into another order of memory nor to float32 and back, forward and backward."""
    module, rows = conv_net().train(), torch.rand(96, 13, 13, 1)
    mixed = choose_precision(module, rows)
    assert mixed is not None
    orders: list[bool] = []

    def note(layer: Any, inputs: Any, output: Tensor) -> None:
        assert output.dtype == (torch.float32 if layer.name == names[-1] else torch.bfloat16)
        orders.append(output.is_contiguous())
        output.register_hook(lambda gradient: orders.append(gradient.is_contiguous()))

    names = [layer.name for layer in module.model.layers]
    hooks = [layer.register_forward_hook(note) for layer in module.model.layers]
    smallest = 96 * 4 * 4 * 32  # the smallest output of a convolution
    with Copies(smallest) as copies, mixed():
        module(rows).square().mean().backward()
    for hook in hooks:
        hook.remove()
    assert copies.found == []
    assert len(orders) == 2 * len(names)
    assert all(orders)


@pytest.mark.usefixtures("_bfloat16_machine")
def test_the_last_layer_is_in_float32_and_the_rest_close_to_it() -> None:
    module, rows = conv_net().train(), torch.rand(96, 13, 13, 1)
    mixed = choose_precision(module, rows)
    assert mixed is not None
    with mixed():
        found = gradients(module, module.model.weights, rows)
    expected = gradients(module, [], rows)  # the output, and the gradient of the rows
    assert found[0].dtype == torch.float32
    assert not torch.equal(found[0], found[0].bfloat16().float())
    assert not torch.equal(found[0], expected[0])
    pairs = zip(found[:2], expected, strict=True)
    missed = [(mine - theirs).norm() / theirs.norm() for mine, theirs in pairs]
    assert missed[0] < 0.02
    assert missed[1] < LARGEST_DIFFERENCE


@pytest.mark.usefixtures("_bfloat16_machine")
def test_dropout_leaves_out_the_same_numbers_in_both_precisions() -> None:
    """Otherwise the comparison of the first step would put the training into float32."""
    module = conv_net(layers.Dropout(0.3, seed=0)).train()
    step = choose_step(
        EncoderEmbedder(module, DenseRows(torch.rand(96, 13, 13, 1).numpy())),
        [UmapTerm(Kernel(1.577, 0.895), n_negatives=8)],
    )
    assert isinstance(step, VerifiedStep)
    step(torch.arange(90), 0.0)
    assert step.is_mixed


def test_layers_cast_again_after_the_block() -> None:
    module = conv_net(layers.Dropout(0.3))
    served = indifferent(module.model.layers)
    assert [type(layer).__name__ for layer in served].count("Dropout") == 0
    assert len(served) == len(module.model.layers) - 1
    with keeping_bfloat16(served):
        assert not any(layer.autocast for layer in served)
    assert all(layer.autocast for layer in served)
    with pytest.raises(ZeroDivisionError), keeping_bfloat16(served):
        raise ZeroDivisionError
    assert all(layer.autocast for layer in served)

"""Networks of the user: none can change the caller's data, and none fails after the search."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.sparse
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from neumap import ParametricUMAP, load
from neumap.callbacks import LambdaCallback
from neumap.networks import MLP

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(60, 4)).astype(np.float32)
QUICK: dict[str, Any] = {"preset": "fast", "n_epochs": 1, "n_neighbors": 5, "random_state": 0}


def quick(**parameters: Any) -> ParametricUMAP:
    return ParametricUMAP(**{**QUICK, **parameters})


class In(nn.Module):
    """A linear layer after an operation, in place or not."""

    def __init__(self, n_inputs: int, n_outputs: int, *, inplace: bool) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(n_inputs, n_outputs, generator=generator))
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        x = x.mul_(3.0).clamp_(-2.0, 2.0) if self.inplace else (x * 3.0).clamp(-2.0, 2.0)
        return x @ self.weight


def encoder(*, inplace: bool = True) -> nn.Module:
    return In(4, 2, inplace=inplace)


def decoder(*, inplace: bool = True) -> nn.Module:
    return In(2, 4, inplace=inplace)


# ------------------------------------------------------------------ the caller's memory


def read_only(values: np.ndarray) -> np.ndarray:
    copied = values.copy()
    copied.flags.writeable = False
    return copied


def mapped(values: np.ndarray, folder: Path, mode: Any) -> np.ndarray:
    path = folder / "rows.bin"
    values.tofile(path)
    return np.memmap(path, dtype=values.dtype, mode=mode, shape=values.shape)


def in_hdf5(values: np.ndarray, folder: Path) -> Any:
    return h5py.File(folder / "rows.h5", "w").create_dataset("X", data=values)


FORMS: dict[str, Callable[[np.ndarray, Path], Any]] = {
    "numpy": lambda values, _: values.copy(),
    "read-only": lambda values, _: read_only(values),
    "Fortran order": lambda values, _: np.asfortranarray(values),
    "part of a larger array": lambda values, _: np.hstack([values, values])[:, :4],
    "torch": lambda values, _: torch.from_numpy(values.copy()),
    "memory map": lambda values, folder: mapped(values, folder, "r+"),
    "read-only memory map": lambda values, folder: mapped(values, folder, "r"),
    "HDF5": in_hdf5,
    "sparse": lambda values, _: scipy.sparse.csr_matrix(values),
    "Dataset": lambda values, _: TensorDataset(torch.from_numpy(values.copy())),
}


def numbers(data: Any) -> np.ndarray:
    if isinstance(data, TensorDataset):
        data = data.tensors[0]
    if isinstance(data, Tensor):
        return data.numpy()
    return data.toarray() if scipy.sparse.issparse(data) else np.array(data)


@pytest.mark.parametrize("form", FORMS)
def test_networks_that_write_on_their_input_change_nothing_else(form: str, tmp_path: Path) -> None:
    data = FORMS[form](X, tmp_path)
    seen: list[np.ndarray] = []
    models = {}
    for inplace in (False, True):
        models[inplace] = quick(
            encoder=encoder(inplace=inplace),
            decoder=decoder(inplace=inplace),
            parametric_reconstruction=True,
            autoencoder_loss=True,
            reconstruction_validation=data,
            callbacks=LambdaCallback(on_epoch_end=lambda run: seen.append(run.embed())),
        ).fit(data)
    plain, model = models[False], models[True]
    # As the same network that does not write: its targets were the rows, not what it made of them.
    np.testing.assert_allclose(model.embedding_, plain.embedding_, rtol=1e-4, atol=1e-4)
    for name in ("reconstruction_loss", "val_reconstruction_loss"):
        np.testing.assert_allclose(model.history_[name], plain.history_[name], rtol=1e-4)
    np.testing.assert_array_equal(model.transform(data), model.embedding_)
    np.testing.assert_array_equal(model.transform(data, batch_size=7), model.embedding_)
    positions = read_only(model.embedding_)
    np.testing.assert_allclose(
        model.inverse_transform(positions), plain.inverse_transform(positions), rtol=1e-3, atol=1e-3
    )
    np.testing.assert_array_equal(positions, model.embedding_)
    if form != "Dataset":
        found, expected = model.confidence(data), plain.confidence(data)
        np.testing.assert_allclose(found.score, expected.score, atol=0.02)
        np.testing.assert_allclose(
            found.measures.jacobian_norm, expected.measures.jacobian_norm, rtol=1e-3
        )
    np.testing.assert_array_equal(numbers(data), X)
    assert seen


def test_relu_in_place_first() -> None:
    rows = read_only(X)
    net = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 2))
    model = quick(encoder=net).fit(rows)
    model.transform(rows)
    np.testing.assert_array_equal(rows, X)


def test_networks_that_write_on_their_input_are_exported(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    model = quick(encoder=encoder()).fit(X)
    file = model.to_onnx(tmp_path / "map.onnx")
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"X": X})[0], model.embedding_, atol=1e-4)


def test_the_own_decoder_is_not_copied_for_but_reads_only() -> None:
    rows = read_only(X)
    model = quick(parametric_reconstruction=True, reconstruction_validation=rows).fit(rows)
    model.transform(rows)
    np.testing.assert_array_equal(rows, X)


def test_losses_that_write_on_their_arguments_leave_validation_rows() -> None:
    def loss(y_true: Tensor, y_pred: Tensor) -> Tensor:
        return (y_true.mul_(0.5) - y_pred).square()

    held_out = X[:9].copy()
    quick(
        parametric_reconstruction=True,
        parametric_reconstruction_loss_fcn=loss,
        reconstruction_validation=held_out,
    ).fit(X)
    np.testing.assert_array_equal(held_out, X[:9])


def test_metrics_that_write_on_their_arguments_leave_the_rows() -> None:
    def metric(one: np.ndarray, other: np.ndarray) -> float:
        one -= other
        return float(np.abs(one).sum())

    rows = X[:20].copy()
    quick(metric=metric).fit(rows)
    np.testing.assert_array_equal(rows, X[:20])


# ------------------------------------------------------------------ what can be a network


class Around(nn.Module):
    """A layer and what is done with it."""

    def __init__(self, layer: nn.Module, do: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.do = layer, do

    def forward(self, x: Tensor) -> Any:
        return self.do(self.layer, x)


class Buffers(nn.Module):
    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(n_inputs, n_outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


@torch.no_grad()
def without_gradient(layer: nn.Module, x: Tensor) -> Any:
    return layer(x)


class Uncopyable(nn.Linear):
    def __deepcopy__(self, memo: Any) -> Any:
        raise RuntimeError("holds a lock")


def quantised(layer: nn.Module) -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(nn.Sequential(layer), {nn.Linear})


def around(do: Callable[[nn.Module, Tensor], Any]) -> Callable[[int, int], nn.Module]:
    return lambda n_inputs, n_outputs: Around(nn.Linear(n_inputs, n_outputs), do)


def given(wrap: Callable[[nn.Module], Any]) -> Callable[[int, int], Any]:
    return lambda n_inputs, n_outputs: wrap(nn.Linear(n_inputs, n_outputs))


# From widths to a network, and what the message says of it.
REFUSED: dict[str, tuple[Callable[[int, int], Any], str]] = {
    "drops a row": (around(lambda f, x: f(x)[1:]), "must give one output for each row, got 7 for"),
    "adds rows": (around(lambda f, x: torch.cat([f(x), f(x)])), "one output .*, got 16 for 8"),
    "detached": (around(lambda f, x: f(x).detach()), "through which gradients reach"),
    "no_grad": (around(without_gradient), "through which gradients reach"),
    "NaN": (around(lambda f, x: f(x) * float("nan")), "must give finite numbers, got NaN"),
    "infinity": (around(lambda f, x: f(x) / 0.0), "must give finite numbers, got NaN or inf"),
    "float64": (given(lambda f: f.double()), r"parameters are torch.float64: call \w+\.float"),
    "float16": (given(lambda f: f.half()), "parameters are torch.float16"),
    "bfloat16": (given(lambda f: f.bfloat16()), "parameters are torch.bfloat16"),
    "integers": (around(lambda f, x: f(x).long()), "real floating-point numbers, got torch.int64"),
    "complex": (around(lambda f, x: f(x) + 0j), "floating-point numbers, got torch.complex64"),
    "sparse": (around(lambda f, x: f(x).to_sparse()), "dense tensor .*, got .*sparse_coo"),
    "meta weights": (given(lambda f: f.to("meta")), "got some on the device 'meta'"),
    "meta output": (around(lambda f, x: f(x).to("meta")), "device of its input, cpu, got .*meta"),
    "tuple": (around(lambda f, x: (f(x), x)), "must return one tensor, got tuple"),
    "dict": (around(lambda f, x: {"z": f(x)}), "must return one tensor, got dict"),
    "numpy": (around(lambda f, x: f(x).detach().numpy()), "one tensor, got ndarray"),
    "None": (around(lambda f, x: None), "one tensor, got NoneType"),
    "one axis": (around(lambda f, x: f(x)[:, 0]), r"got \('n',\)"),
    "three axes": (around(lambda f, x: f(x)[:, None]), r"got \('n', 1, \d\)"),
    "other input": (lambda i, o: nn.Linear(i + 1, o), r"must take float32 \w+ of shape \(\d,\), g"),
    "images": (lambda i, o: nn.Conv2d(1, 2, 3), r"must take float32 \w+ of shape"),
    "codes": (lambda i, o: nn.Embedding(9, o), "scalar types: Long"),
    "fails": (around(lambda f, x: [][0]), "got IndexError: list index out of range"),
    "class": (lambda i, o: nn.Linear, "must be a module, got the class Linear. Pass an instance"),
    "function": (lambda i, o: len, "must be a torch.nn.Module, .* got <built-in function len>"),
    "array": (lambda i, o: np.zeros((i, o)), "must be a torch.nn.Module"),
    "number": (lambda i, o: 3, "must be a torch.nn.Module, .* got 3"),
    "cannot be copied": (lambda i, o: Uncopyable(i, o), "copy.deepcopy can copy.*holds a lock"),
}

ACCEPTED: dict[str, Callable[[int, int], nn.Module]] = {
    "linear": nn.Linear,
    "lazy": lambda i, o: nn.LazyLinear(o),
    "batch norm": lambda i, o: nn.Sequential(nn.Linear(i, o), nn.BatchNorm1d(o)),
    "in place": lambda i, o: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(i, o)),
    "float64 output": around(lambda f, x: f(x).double()),
    "float16 output": around(lambda f, x: f(x).half()),
    "float64 inside": lambda i, o: Around(nn.Linear(i, o).double(), lambda f, x: f(x.double())),
    "MLP in float64": lambda i, o: MLP(i, o, (6,), subspace=2).double(),
    "compiled": given(lambda f: torch.compile(f, backend="eager")),
    "DataParallel": given(nn.DataParallel),
    "ScriptModule": given(lambda f: torch.jit.script(nn.Sequential(f, nn.Tanh()))),
    "traced": lambda i, o: torch.jit.trace(nn.Linear(i, o), torch.zeros(2, i)),
    "buffers too": lambda i, o: nn.Sequential(nn.Linear(i, 3), Buffers(3, o)),
    "read-only input": around(lambda f, x: f(x.detach().clone())),
}

# Of a decoder alone: the encoder is trained.
FROZEN: dict[str, Callable[[int, int], nn.Module]] = {
    "frozen": given(lambda f: f.requires_grad_(False)),
    "buffers only": Buffers,
    "quantised": given(quantised),
}


def as_role(role: str, make: Callable[[int, int], Any], **parameters: Any) -> ParametricUMAP:
    if role == "encoder":
        return quick(encoder=make(4, 2), **parameters)
    return quick(decoder=make(2, 4), parametric_reconstruction=True, **parameters)


@pytest.mark.filterwarnings("ignore:.*(deprecated|Casting complex|torch.ao|torch.jit).*")
@pytest.mark.parametrize("role", ["encoder", "decoder"])
@pytest.mark.parametrize("name", REFUSED)
def test_networks_that_do_not_fit_are_refused_before_the_search(
    role: str, name: str, no_search: type[Exception]
) -> None:
    make, message = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=rf"(?s)^{role} must .*") as caught:
        as_role(role, make).fit(X)
    caught.match(f"(?s){message}")


# torch's own words on kinds of modules that it will drop.
of_torch = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore:torch.quantize:UserWarning",
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning",
)


@of_torch
@pytest.mark.parametrize("name", FROZEN)
def test_an_encoder_without_anything_to_train_is_refused(
    name: str, no_search: type[Exception]
) -> None:
    with pytest.raises(ValueError, match=r"encoder must have parameters to train.*n_epochs=0"):
        as_role("encoder", FROZEN[name]).fit(X)


@of_torch
@pytest.mark.parametrize("name", FROZEN)
def test_a_frozen_encoder_is_used_as_it_is(name: str) -> None:
    net = FROZEN[name](4, 2)
    model = quick(encoder=net, n_epochs=0).fit(X)
    with torch.no_grad():
        np.testing.assert_array_equal(model.embedding_, net(torch.from_numpy(X)).numpy())
    below = quick(encoder=net, parametric_reconstruction=True).fit(X)  # trains the decoder alone
    np.testing.assert_array_equal(below.embedding_, model.embedding_)


@of_torch
@pytest.mark.parametrize("role", ["encoder", "decoder"])
@pytest.mark.parametrize("name", [*ACCEPTED, *FROZEN])
def test_networks_that_can_be_trained(role: str, name: str) -> None:
    if role == "encoder" and name in FROZEN:
        pytest.skip("nothing to train")
    torch.manual_seed(1)
    net = {**ACCEPTED, **FROZEN}[name](*((4, 2) if role == "encoder" else (2, 4)))
    model = as_role(role, lambda *_: net).fit(X)
    start = as_role(role, lambda *_: net, n_epochs=0).fit(X)
    assert model.embedding_.dtype == np.float32
    assert np.isfinite(model.embedding_).all()
    np.testing.assert_allclose(model.transform(X), model.embedding_, atol=1e-5)
    places = model.embedding_[:3]
    if role == "encoder":
        assert np.abs(model.embedding_ - start.embedding_).max() > 1e-3  # it was trained
        assert np.isfinite(model.confidence(X[:5]).score).all()
    else:
        moved = np.abs(model.inverse_transform(places) - start.inverse_transform(places)).max()
        assert (moved > 1e-3) == (name not in FROZEN)


def test_an_encoder_that_drops_some_batches_rows_is_named() -> None:
    net = Around(nn.Linear(4, 2), lambda f, x: f(x)[:50])
    with pytest.raises(ValueError, match="one output for each row, got 50 for 60 rows"):
        quick(encoder=net).fit(X)


class Tied(nn.Module):
    """Decodes with the transposed weights of an encoder."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.bias = nn.Parameter(torch.zeros(4))

    def forward(self, z: Tensor) -> Tensor:
        return z @ self.layer.weight + self.bias


def test_networks_that_share_parameters_still_do(tmp_path: Path) -> None:
    net = nn.Linear(4, 2)
    before = copy.deepcopy(net.state_dict())
    model = quick(
        encoder=net, decoder=Tied(net), parametric_reconstruction=True, autoencoder_loss=True
    ).fit(X)
    assert model.decoder_.layer.weight is model.encoder_.weight
    assert not torch.equal(model.encoder_.weight, before["weight"])
    assert torch.equal(net.weight, before["weight"])  # the user's own stay as they are
    separate = quick(encoder=net, decoder=nn.Linear(2, 4), parametric_reconstruction=True).fit(X)
    shared = {id(p) for p in separate.encoder_.parameters()}
    assert shared.isdisjoint(id(p) for p in separate.decoder_.parameters())


def test_a_saved_network_is_not_needed_for_these_checks(tmp_path: Path) -> None:
    model = quick(encoder=nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 2))).fit(X)
    loaded = load(model.save(tmp_path / "map.neumap"))
    rows = read_only(X)
    np.testing.assert_array_equal(loaded.transform(rows), model.embedding_)
    np.testing.assert_array_equal(rows, X)

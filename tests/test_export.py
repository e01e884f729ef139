"""ONNX files against the modules they come from, by onnxruntime."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neumap import export, networks
from neumap.export import to_onnx

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


class FlatRowsConv(nn.Module):
    """A convolutional network that does its own reshaping and scaling, as an estimator's does."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.linspace(-1, 1, 64))
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(64, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(((x - self.mean) / 3).reshape(-1, 8, 8, 1).movedim(-1, 1))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(12, 12)
        self.norm = nn.LayerNorm(12)
        self.last = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x + nn.functional.gelu(self.norm(self.inner(x))))


class LengthAsNumber(nn.Module):
    """Takes the batch size as a Python number, in the two usual ways."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), 2, 2).reshape(int(x.shape[0]), 4) - 1


class ImageDecoder(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Linear(2, 8),
            nn.ELU(),
            nn.Unflatten(1, (2, 2, 2)),
            nn.ConvTranspose2d(2, 1, 4, stride=2, padding=1),
            nn.Upsample(scale_factor=2),
            nn.Sigmoid(),
        )


MODULES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "package MLP": (lambda: networks.MLP(12, 2, (16, 16)), (12,)),
    "conv on flat rows": (FlatRowsConv, (64,)),
    "residual with LayerNorm": (Residual, (12,)),
    "batch size as a number": (LengthAsNumber, (4,)),
    "image decoder": (ImageDecoder, (2,)),
}


def run(file: Path, rows: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: rows})
    return output


@pytest.mark.parametrize("name", MODULES)
def test_file_gives_the_numbers_of_the_module(tmp_path: Path, name: str) -> None:
    make, shape = MODULES[name]
    module = make()
    file = to_onnx(module, tmp_path / "m.onnx", example=shape)
    generator = np.random.default_rng(4)
    module.eval()
    for n_rows in (1, 7, 64):
        rows = generator.normal(0, 5, (n_rows, *shape)).astype(np.float32)
        with torch.no_grad():
            expected = module(torch.from_numpy(rows)).numpy()
        assert (rows < 0).any()
        assert name == "image decoder" or (expected < 0).any()
        got = run(file, rows)
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_names_opset_and_axis(tmp_path: Path) -> None:
    file = to_onnx(
        Residual(),
        tmp_path / "m.onnx",
        example=torch.ones(1, 12),
        input_names=["X"],
        output_names=["embedding"],
        opset=20,
    )
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
    for values, name, width in ((model.graph.input, "X", 12), (model.graph.output, "embedding", 3)):
        (value,) = values
        sizes = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        assert (value.name, sizes) == (name, ["batch", width])


def test_integer_rows_and_several_outputs(tmp_path: Path) -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(256, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = self.table(x).flatten(1)
            return y, y.sum(1)

    module = Both()
    example = torch.arange(20).reshape(5, 4)
    file = to_onnx(module, tmp_path / "m.onnx", example=example, output_names=["y", "sum"])
    session = onnxruntime.InferenceSession(file)
    y, total = session.run(None, {"input": example.numpy()})
    np.testing.assert_allclose(y, module(example)[0].detach().numpy(), rtol=1e-6)
    np.testing.assert_allclose(total, y.sum(1), rtol=1e-5)


class OfCodes(nn.Module):
    """Reads the numbers of a row as rows of a table, which has no others."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 3)
        self.output = nn.Linear(12, 2)

    def forward(self, rows: Tensor) -> Tensor:
        positions: Tensor = self.output(self.table(rows.long()).flatten(1))
        return positions


@pytest.mark.parametrize("name", ["embedding", "x", "linear", "val_0"])
def test_codes_and_results_with_the_name_of_the_output(tmp_path: Path, name: str) -> None:
    """The exporter calls the result of a table "embedding", as the estimator calls its output."""
    module = OfCodes()
    rows = torch.arange(24).reshape(6, 4).remainder(5).float()
    file = to_onnx(module, tmp_path / "m.onnx", example=rows, output_names=[name])
    session = onnxruntime.InferenceSession(file)
    assert [output.name for output in session.get_outputs()] == [name]
    (found,) = session.run([name], {"input": rows.numpy()})
    np.testing.assert_allclose(found, module(rows).detach().numpy(), atol=1e-6)


def test_double_precision(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 2)).double()
    file = to_onnx(module, tmp_path / "m.onnx", example=(12,), tolerance=1e-12)
    rows = np.random.default_rng(0).normal(size=(3, 12))
    np.testing.assert_allclose(run(file, rows), module(torch.from_numpy(rows)).detach(), rtol=1e-9)


def test_operator_that_the_runtime_lacks(tmp_path: Path) -> None:
    module = ImageDecoder().double()
    with pytest.raises(ValueError, match=r"load in onnxruntime, .* use module\.float\(\)"):
        to_onnx(module, tmp_path / "m.onnx", example=(2,))


@pytest.mark.usefixtures("global_random_state_untouched")
def test_module_is_as_before(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        module = FlatRowsConv()
    module.train()
    module.body[1].eval()
    modes = [part.training for part in module.modules()]
    state = module.state_dict(keep_vars=True)
    before = {key: (value, value.data_ptr(), value.clone()) for key, value in state.items()}
    to_onnx(module, tmp_path / "m.onnx", example=torch.zeros(3, 64))
    assert [part.training for part in module.modules()] == modes
    for key, value in module.state_dict(keep_vars=True).items():
        same, address, content = before[key]
        assert value is same
        assert value.data_ptr() == address
        assert torch.equal(value, content)
    with torch.random.fork_rng():  # for the dropout
        module(torch.zeros(2, 64)).sum().backward()  # it still trains


@pytest.mark.gpu
def test_module_returns_to_its_device(tmp_path: Path) -> None:
    module = FlatRowsConv().cuda()
    weight = module.body[0].weight
    file = to_onnx(module, tmp_path / "m.onnx", example=torch.zeros(3, 64, device="cuda"))
    assert all(tensor.is_cuda for tensor in module.state_dict().values())
    assert module.body[0].weight is weight
    rows = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    expected = module.eval().cpu()(rows).detach().numpy()
    np.testing.assert_allclose(run(file, rows.numpy()), expected, atol=1e-5)


def test_mode_returns_after_a_failure(tmp_path: Path) -> None:
    module = Branching()
    with pytest.raises(ValueError, match="got Branching, which failed"):
        to_onnx(module, tmp_path / "new" / "m.onnx", example=(3,))
    assert module.training
    assert list(tmp_path.iterdir()) == []


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize("module", [Residual(), Branching()], ids=["works", "fails"])
def test_nothing_is_said(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    module: nn.Module,
) -> None:
    levels = {name: logging.getLogger(name).level for name in ("torch", "torch.onnx", "onnxscript")}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            to_onnx(module, tmp_path / "m.onnx", example=(12,))
        except ValueError:
            assert isinstance(module, Branching)
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in caught] == []
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []
    assert {name: logging.getLogger(name).level for name in levels} == levels


def test_file_tells_nothing_of_the_machine(tmp_path: Path) -> None:
    content = to_onnx(FlatRowsConv(), tmp_path / "m.onnx", example=(64,)).read_bytes()
    for trace in (b"stack_trace", b"test_export", b"site-packages", str(Path.cwd()).encode()):
        assert trace not in content


def test_file_that_differs_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "m.onnx"
    file.write_bytes(b"older")

    def with_relu(module: nn.Module, *rest: Any) -> Any:
        return original(nn.Sequential(module, nn.ReLU()).eval(), *rest)

    original = export._export
    monkeypatch.setattr(export, "_export", with_relu)
    with pytest.raises(
        ValueError, match=r"agree with the module within 1e-05.* a difference of 0\.\d"
    ):
        to_onnx(nn.Linear(4, 2), file, example=(4,))
    assert file.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [file]
    to_onnx(nn.Linear(4, 2), file, example=(4,), check=False)
    assert file.read_bytes() != b"older"


def test_nan_counts_as_a_difference() -> None:
    with pytest.raises(ValueError, match="difference of nan"):
        export._require_equal(np.ones(2), np.array([1.0, np.nan]), 1e-5)
    with pytest.raises(ValueError, match=r"return shape \(2, 1\).*got \(1, 2\)"):
        export._require_equal(np.ones((2, 1)), np.ones((1, 2)), 1e-5)


def test_without_onnxruntime_the_log_says_it_is_unchecked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
    with caplog.at_level(logging.INFO, logger="neumap.export"):
        to_onnx(nn.Linear(4, 2), tmp_path / "m.onnx", example=(4,))
    assert "m.onnx was written without a check" in caplog.text


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=re.escape('pip install "neumap[onnx]"')):
        to_onnx(nn.Linear(4, 2), tmp_path / "m.onnx", example=(4,))


def test_large_weights_take_a_second_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_LARGEST_FILE", 1000)
    module = nn.Linear(64, 64)
    with pytest.warns(
        UserWarning, match=r"They are in m\.onnx\.data, which must stay in the same folder as m"
    ):
        file = to_onnx(module, tmp_path / "m.onnx", example=(64,))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    rows = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
    expected = module(torch.from_numpy(rows)).detach().numpy()
    np.testing.assert_allclose(run(file, rows), expected, atol=1e-5)


@pytest.mark.parametrize("example", [torch.zeros(0, 4), torch.tensor(1.0)])
def test_example_without_rows(tmp_path: Path, example: Tensor) -> None:
    with pytest.raises(ValueError, match=r"example must have rows .* Pass a few rows"):
        to_onnx(nn.Linear(4, 2), tmp_path / "m.onnx", example=example)

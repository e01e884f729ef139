"""Choice of device and dtype, with the machine's answers given by the test."""

from __future__ import annotations

import pytest
import torch

from neumap._device import fast_dtype, resolve_device, torch_threads


@pytest.fixture
def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize(("cuda", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_prefers_cuda(monkeypatch: pytest.MonkeyPatch, cuda: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert resolve_device("auto") == torch.device(expected)


def test_auto_leaves_mps_alone(monkeypatch: pytest.MonkeyPatch, no_accelerator: None) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cpu")
    assert resolve_device("mps") == torch.device("mps")


def test_devices_by_name_and_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device(torch.device("cpu")) == torch.device("cpu")
    assert resolve_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize("name", ["graphics", "", "cuda:x", 3.5, 3, None, []])
def test_unknown_names(name: object, no_accelerator: None) -> None:
    with pytest.raises(ValueError, match=r"device must be 'auto', 'cpu'.*got"):
        resolve_device(name)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("device", "kind"), [("cuda", "CUDA"), (torch.device("cuda:0"), "CUDA"), ("mps", "MPS")]
)
def test_devices_the_machine_lacks(
    device: str | torch.device, kind: str, no_accelerator: None
) -> None:
    with pytest.raises(ValueError, match=rf"torch finds no {kind} device. Use device='auto'"):
        resolve_device(device)


@pytest.mark.parametrize("device", ["meta", torch.device("meta"), "vulkan", "xpu"])
def test_devices_that_hold_no_numbers(device: str | torch.device) -> None:
    with pytest.raises(
        ValueError, match=r"device must be one that .* got '\w+'.*Use device='auto'"
    ):
        resolve_device(device)


def test_gpu_that_the_machine_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ValueError, match=r"below 'cuda:2'.*got 'cuda:2'\. Use device='cuda'"):
        resolve_device("cuda:2")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"amx_bf16": True}, torch.bfloat16),
        ({"amx_bf16": False, "avx512_bf16": True}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_bfloat16_on_a_cpu_only_with_amx(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert fast_dtype(torch.device("cpu")) == expected


def test_torch_that_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert fast_dtype(torch.device("cpu")) == torch.float32


@pytest.mark.parametrize(
    ("supported", "expected"), [(True, torch.bfloat16), (False, torch.float32)]
)
def test_cuda_is_asked_for_bfloat16(
    monkeypatch: pytest.MonkeyPatch, supported: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert fast_dtype(torch.device("cuda")) == expected


def test_mps_keeps_float32() -> None:
    assert fast_dtype(torch.device("mps")) == torch.float32


def test_threads_are_put_back_also_after_an_error() -> None:
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    with torch_threads(None):
        assert torch.get_num_threads() == before
    with pytest.raises(KeyError), torch_threads(before + 2):
        raise KeyError
    assert torch.get_num_threads() == before

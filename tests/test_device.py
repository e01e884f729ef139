"""Choice of device and dtype, with the machine's answers given by the test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from neumap import _device
from neumap._device import (
    fast_dtype,
    resolve_device,
    torch_threads,
    training_threads,
    usable_cores,
)


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


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def groups(root: Path, memberships: str, limits: dict[str, str]) -> Path:
    """Write the files of control groups below a folder as Linux shows them."""
    for name, content in {"proc/self/cgroup": memberships, **limits}.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("350000 100000\n", 3),  # half a core would be used up by waiting
        ("50000 100000\n", 1),
        ("3200000 100000\n", 8),  # more than the affinity
        ("", 8),
        ("100000 0\n", 8),
    ],
)
def test_quota_of_a_container(tmp_path: Path, eight_cores: None, limit: str, cores: int) -> None:
    """Version 2, as a container sees it: its own group is the root."""
    assert usable_cores(groups(tmp_path, "0::/\n", {"sys/fs/cgroup/cpu.max": limit})) == cores


def test_the_tightest_group_around_the_process_counts(tmp_path: Path, eight_cores: None) -> None:
    limits = {
        "sys/fs/cgroup/work.slice/job.scope/cpu.max": "600000 100000",
        "sys/fs/cgroup/work.slice/cpu.max": "300000 100000",
        "sys/fs/cgroup/other.slice/cpu.max": "100000 100000",
    }
    assert usable_cores(groups(tmp_path, "0::/work.slice/job.scope\n", limits)) == 3


@pytest.mark.parametrize(("quota", "cores"), [("250000", 2), ("-1", 8)])
@pytest.mark.parametrize("folder", ["cpu,cpuacct", "cpu"])
@pytest.mark.parametrize("path", ["/docker/4f1c", "/"])
def test_quota_of_version_1(
    tmp_path: Path, eight_cores: None, quota: str, cores: int, folder: str, path: str
) -> None:
    """In a container the path is that of the host, and only the mount is there."""
    memberships = f"7:memory:/docker/4f1c\n3:{folder}:{path}\n0::/\n"
    mount = f"sys/fs/cgroup/{folder}"
    limits = {f"{mount}/cpu.cfs_quota_us": quota, f"{mount}/cpu.cfs_period_us": "100000"}
    assert usable_cores(groups(tmp_path, memberships, limits)) == cores


def test_groups_of_other_controllers_do_not_limit(tmp_path: Path, eight_cores: None) -> None:
    limits = {
        "sys/fs/cgroup/cpuset/cpu.cfs_quota_us": "100000",
        "sys/fs/cgroup/cpuset/cpu.cfs_period_us": "100000",
    }
    assert usable_cores(groups(tmp_path, "3:cpuset:/\n2:cpuacct:/\n", limits)) == 8


def test_cores_without_control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5, 6}, raising=False)
    assert usable_cores(tmp_path) == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert usable_cores(tmp_path) == 12
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores(tmp_path) == 1


@pytest.mark.parametrize(
    ("threads", "cores", "small", "large", "long"),
    [
        (1, 8, 1, 1, 1),
        (2, 8, 1, 1, 2),
        (8, 8, 4, 4, 8),
        (8, 1, 1, 1, 1),
        (8, 2, 1, 1, 2),
        (64, 64, 4, 16, 16),
    ],
)
def test_training_leaves_half_of_the_cores_unless_steps_are_long(
    monkeypatch: pytest.MonkeyPatch, threads: int, cores: int, small: int, large: int, long: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(_device, "usable_cores", lambda: cores)
    assert training_threads(is_small=True) == small
    assert training_threads(is_small=False) == large
    assert training_threads(is_small=False, is_long=True) == long


def test_torch_takes_no_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch_threads(5):
        monkeypatch.setattr(_device, "usable_cores", lambda: 3)
        with torch_threads():
            assert torch.get_num_threads() == 3
        monkeypatch.setattr(_device, "usable_cores", lambda: 9)
        with torch_threads():
            assert torch.get_num_threads() == 5

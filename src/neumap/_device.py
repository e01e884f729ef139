"""The device on which the package computes, and the precision that is fastest there."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

__all__ = ["allowed_threads", "fast_dtype", "is_on_card", "resolve_device", "torch_threads"]

# OpenMP's threads do not survive a fork: a forked child that starts a parallel region waits for
# ever. A child works with one thread, which starts none.
_forked_in: list[int] = []


def _use_one_thread_in_child() -> None:
    _forked_in.append(os.getpid())
    torch.set_num_threads(1)
    if "faiss" in sys.modules:
        sys.modules["faiss"].omp_set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_use_one_thread_in_child)


def allowed_threads(n_threads: int) -> int:
    """Return the number of threads to use where `n_threads` are wanted: 1 in a forked process."""
    return 1 if os.getpid() in _forked_in else n_threads


def is_on_card(tensor: torch.Tensor) -> bool:
    """Whether numpy cannot read the tensor's memory."""
    return tensor.device.type != "cpu"


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device to use; ``"auto"`` prefers CUDA, then the CPU.

    Apple's MPS must be named. ``"auto"`` does not choose it, since the small steps of this training
    are slower there than on the CPU unless the layers are wide.

    Raises
    ------
    ValueError
        If the name is unknown or the machine does not have the device.
    """
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    resolved = _named(device)
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device must be one that torch finds, got {str(device)!r}, but torch finds no CUDA "
            "device. Use device='auto' or 'cpu', or install a CUDA build of torch."
        )
    if resolved.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(
            f"device must be one that torch finds, got {str(device)!r}, but torch finds no MPS "
            "device. Use device='auto' or 'cpu'."
        )
    n_cuda = torch.cuda.device_count() if resolved.type == "cuda" else 0
    if n_cuda and (resolved.index or 0) >= n_cuda:
        raise ValueError(
            f"device must be below 'cuda:{n_cuda}' on this machine, got {str(device)!r}. Use "
            "device='cuda'."
        )
    if resolved.type not in ("cpu", "cuda", "mps"):
        _check_holds_numbers(resolved)
    return resolved


def _named(device: object) -> torch.device:
    resolved = device if isinstance(device, torch.device) else None
    if isinstance(device, str):
        with suppress(RuntimeError):
            resolved = torch.device(device)
    if resolved is None:
        raise ValueError(
            f"device must be 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps', got {device!r:.60}. Use "
            "device='auto'."
        )
    return resolved


def _check_holds_numbers(device: torch.device) -> None:
    """Raise for a device without numbers ("meta"), without a backend, or of a wrong index."""
    try:
        torch.ones(1, device=device).cpu()
    except (RuntimeError, AssertionError, ModuleNotFoundError) as error:  # what backends raise
        raise ValueError(
            f"device must be one that this build of torch can compute on, got {str(device)!r} "
            f"({str(error).splitlines()[0]}). Use device='auto' or 'cpu'."
        ) from error


def fast_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype in which hidden layers train fastest on `device`.

    bfloat16 where the processor multiplies bfloat16 tiles in hardware (AMX on x86, tensor cores
    on CUDA), float32 elsewhere. This checks the capability and does not measure time: a measurement
    could differ between runs, and then so would the result of a seed.
    """
    if device.type == "cuda":
        # GPUs before Ampere emulate bfloat16, which is slower than float32.
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_bfloat16 else torch.float32
    # Older releases of torch lack this function. float32 works everywhere.
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if device.type == "cpu" and capabilities is not None and capabilities().get("amx_bf16", False):
        return torch.bfloat16
    return torch.float32


@contextmanager
def torch_threads(n_threads: int | None) -> Iterator[None]:
    """Run code with this many of torch's CPU threads; None keeps the current number.

    The number applies to the operations of the calling thread, as in ``torch.set_num_threads``.
    """
    before = torch.get_num_threads()
    if n_threads is not None:
        torch.set_num_threads(allowed_threads(n_threads))
    try:
        yield
    finally:
        torch.set_num_threads(before)

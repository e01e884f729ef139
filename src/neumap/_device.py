"""Where the arithmetic runs, and in which precision the machine is fastest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

KINDS = ("cpu", "cuda", "mps")

__all__ = ["fast_dtype", "resolve_device", "torch_threads"]


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device to use; ``"auto"`` prefers CUDA, then the CPU.

    Apple's MPS is used when named, not by ``"auto"``: the small steps of this training run
    slower there than on the CPU until the layers are wide.

    Raises
    ------
    ValueError
        If the name is unknown or the machine has no such device.
    """
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    resolved = _named(device)
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device must be one that torch sees, got {str(device)!r}, but torch sees no CUDA "
            "device. Use device='auto' or 'cpu', or install a CUDA build of torch."
        )
    if resolved.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(
            f"device must be one that torch sees, got {str(device)!r}, but torch sees no MPS "
            "device. Use device='auto' or 'cpu'."
        )
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device must be one that torch sees, got {str(device)!r} of "
            f"{torch.cuda.device_count()} CUDA devices, counted from 0. Use device='auto'."
        )
    return resolved


def _named(device: object) -> torch.device:
    """Return the device of that name, of one of the kinds that neumap computes on."""
    resolved = device if isinstance(device, torch.device) else None
    if isinstance(device, str):
        with suppress(RuntimeError):
            resolved = torch.device(device)
    if resolved is None or resolved.type not in KINDS:
        raise ValueError(
            f"device must be 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps', got {device!r:.60}. Use "
            "device='auto'."
        )
    return resolved


def fast_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype in which hidden layers train fastest on `device`.

    bfloat16 where the processor multiplies bfloat16 tiles in hardware (AMX on x86, tensor cores
    on CUDA), float32 elsewhere. This asks for the capability and never times anything: a
    timing could differ from one run to the next, and the result of a seed with it.
    """
    if device.type == "cuda":
        # Cards before Ampere emulate bfloat16, slower than float32.
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_bfloat16 else torch.float32
    # Older releases of torch cannot be asked; float32 is right everywhere.
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if device.type == "cpu" and capabilities is not None and capabilities().get("amx_bf16", False):
        return torch.bfloat16
    return torch.float32


@contextmanager
def torch_threads(n_threads: int | None) -> Iterator[None]:
    """Run code with this many of torch's CPU threads; None leaves the number alone.

    The number holds for the calling thread's operations, as ``torch.set_num_threads`` does.
    """
    before = torch.get_num_threads()
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)

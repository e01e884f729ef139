"""The device on which the package computes, and the precision that is fastest there."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

__all__ = [
    "allowed_threads",
    "fast_dtype",
    "is_on_card",
    "resolve_device",
    "torch_threads",
    "training_threads",
    "usable_cores",
]

# More threads than this gain nothing where the operations of a training step are small: free
# positions and the package's MLP. Convolutions and wide networks of users use more.
SMALL_STEP_THREADS = 4
LARGE_STEP_THREADS = 16

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


def usable_cores(root: Path = Path("/")) -> int:
    """Return the number of cores that this process may keep busy, at least 1.

    The least of the machine's cores, the process's affinity and the quota of its control group (a
    container's limit). A fraction of a core is left out: threads that wait for each other while
    one of them is over the quota use the quota up.

    Parameters
    ----------
    root : Path, default="/"
        Where ``proc`` and ``sys`` are mounted.
    """
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, int(min([float(cores), *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the cores that each control group around this process allows, where it has a limit."""
    try:
        memberships = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    mounts = root / "sys/fs/cgroup"
    for line in memberships:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            for group in _with_ancestors(mounts, path):
                yield from _ratio(_words(group / "cpu.max"))
        elif "cpu" in controllers.split(","):  # version 1
            for mount in (mounts / controllers, mounts / "cpu"):
                for group in _with_ancestors(mount, path):
                    files = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                    yield from _ratio([word for name in files for word in _words(group / name)])


def _with_ancestors(mount: Path, path: str) -> Iterator[Path]:
    """Yield the folder of a group and those of the groups around it, the mount last.

    The limit of a group holds for all groups within. In a container the path may be that of the
    host, of which only the last folder, or none, exists.
    """
    inner = Path(path.lstrip("/"))
    for folder in (inner, *inner.parents):
        yield mount / folder


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def _ratio(words: list[str]) -> list[float]:
    """Return quota / period; nothing for no limit, which is written as ``max`` or -1."""
    if len(words) != 2 or not all(word.isdecimal() for word in words) or int(words[1]) == 0:
        return []
    return [int(words[0]) / int(words[1])]


def training_threads(*, is_small: bool, is_long: bool = False) -> int:
    """Return the threads for training steps: half of those torch may use, at most 4 or 16.

    A step consists of tens of operations, and after each one its threads wait for each other in a
    busy loop. With one thread per core, a single other busy process delays every operation by a
    time slice of the scheduler: on two cores, training then takes 10 to 30 times as long. In
    return, the second of two cores gained 15 %. Operations that take longer than a time slice gain
    more (a net of convolutions 1.7 times as fast on two cores) and lose less.

    Parameters
    ----------
    is_small : bool
        Whether the operations are too small for many threads.
    is_long : bool, default=False
        Whether they are so long that every core is worth a thread.
    """
    most = SMALL_STEP_THREADS if is_small else LARGE_STEP_THREADS
    cores = min(torch.get_num_threads(), usable_cores())
    return max(1, min(most, cores if is_long else cores // 2))


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
def torch_threads(n_threads: int | None = None) -> Iterator[None]:
    """Run code with this many of torch's CPU threads.

    None keeps the current number, or takes the usable cores if that is less.

    The number applies to the operations of the calling thread, as in ``torch.set_num_threads``.
    """
    before = torch.get_num_threads()
    wanted = min(before, usable_cores()) if n_threads is None else n_threads
    torch.set_num_threads(allowed_threads(wanted))
    try:
        yield
    finally:
        torch.set_num_threads(before)

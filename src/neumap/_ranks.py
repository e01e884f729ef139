"""The processes that fit one model together, launched by ``torchrun`` or by the user's own script.

The only room that knows ``torch.distributed``. :func:`current_ranks` returns what the process group
of the caller says; without one, a process is alone, and nothing here does anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

__all__ = [
    "ALONE",
    "LostProcessError",
    "Ranks",
    "current_ranks",
    "launched_ranks",
    "telling",
    "telling_errors",
]

if dist.is_available() and not dist.is_initialized():
    # The defaults of its functions keep the process group of the moment in which it is imported,
    # and torch imports it for optimisers. A group that is kept outlives destroy_process_group:
    # its threads run on while the interpreter ends, which aborts a process now and then.
    import torch.distributed.nn.functional

# How long the command waits for another process: they do the same work at about the same speed.
TIMEOUT = timedelta(minutes=10)

MESSAGE = 1 << 24  # numbers of a large array that are sent at once
TOLD = "_neumap_all_processes_know"


class LostProcessError(RuntimeError):
    """Another process of the fit has ended, or does not answer in time."""


@dataclass(frozen=True)
class Ranks:
    """One of several processes that work on the same batches.

    Attributes
    ----------
    rank : int, default=0
        Number of this process.
    size : int, default=1
        How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_alone(self) -> bool:
        """Whether there is no other process."""
        return self.size == 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def share(self, n_rows: int) -> slice:
        """Return which of some rows are those of this process.

        Examples
        --------
        >>> [Ranks(rank, 3).share(8) for rank in range(3)]
        [slice(0, 2, None), slice(2, 5, None), slice(5, 8, None)]
        """
        return slice(n_rows * self.rank // self.size, n_rows * (self.rank + 1) // self.size)

    def gather(self, own: Tensor, n_rows: int) -> Tensor:
        """Return the rows of all processes, (n_rows, ...), from those of each one's share."""
        if self.is_alone:
            return own
        # A sum with zeros: shares may differ in length, and the rows of a batch are few.
        whole = own.new_zeros(n_rows, *own.shape[1:])
        whole[self.share(n_rows)] = own
        self.sum_([whole])
        return whole

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over all processes, in one message for each dtype."""
        if self.is_alone:
            return
        for dtype in {tensor.dtype: None for tensor in tensors}:
            of_one = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.reshape(-1) for tensor in of_one])
            with _asking():
                dist.all_reduce(flat)
            start = 0
            for tensor in of_one:
                part = flat[start : start + tensor.numel()]
                tensor.copy_(part.view_as(tensor))
                start += tensor.numel()

    def add_(self, values: Tensor) -> None:
        """Replace a large array by its sum over all processes, a part at a time.

        Where all but one have zeros, this gathers: sums with zero are exact.
        """
        if self.is_alone:
            return
        flat = values.view(-1)
        for start in range(0, len(flat), MESSAGE):
            part = flat[start : start + MESSAGE]
            sent = part.to(_device())
            with _asking():
                dist.all_reduce(sent)
            part.copy_(sent)

    def of_all(self, own: Tensor) -> list[Tensor]:
        """Return the arrays of all processes, which have one shape."""
        if self.is_alone:
            return [own]
        parts = []
        for rank in range(self.size):
            sent = (own if rank == self.rank else torch.empty_like(own)).to(_device()).contiguous()
            with _asking():
                dist.broadcast(sent, rank)
            parts.append(sent.to(own.device))
        return parts

    def take_first_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by those of the first process."""
        if self.is_alone:
            return
        for tensor in tensors:
            sent = tensor.contiguous()
            with _asking():
                dist.broadcast(sent, 0)
            tensor.copy_(sent)

    def first_numbers(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the numbers of the first process; all processes have the same names."""
        if self.is_alone:
            return dict(values)
        numbers = torch.tensor([*values.values()], dtype=torch.float64, device=_device())
        self.take_first_([numbers])
        return dict(zip(values, numbers.tolist(), strict=True))

    def sums(self, values: Sequence[float]) -> list[float]:
        """Return the sums of numbers over all processes."""
        if self.is_alone:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.float64, device=_device())
        self.sum_([numbers])
        return list(map(float, numbers.tolist()))

    def texts(self, text: str) -> list[str]:
        """Return the texts of all processes."""
        if self.is_alone:
            return [text]
        content = text.encode()
        lengths = torch.zeros(self.size, dtype=torch.int64, device=_device())
        lengths[self.rank] = len(content)
        self.sum_([lengths])
        table = torch.zeros(self.size, int(lengths.max()), dtype=torch.int32, device=_device())
        table[self.rank, : len(content)] = torch.tensor(list(content), dtype=torch.int32)
        self.sum_([table])
        rows = zip(table.tolist(), lengths.tolist(), strict=True)
        return [bytes(row[:length]).decode() for row, length in rows]

    def barrier(self) -> None:
        """Wait until all processes are here."""
        self.sums([0.0])


ALONE = Ranks()


def current_ranks() -> Ranks:
    """Return the processes of the process group that the caller has initialised."""
    if not (dist.is_available() and dist.is_initialized()):
        return ALONE
    return Ranks(dist.get_rank(), dist.get_world_size())


@contextmanager
def telling(ranks: Ranks) -> Iterator[dict[str, Any]]:
    """Let all processes end a block of code, or none.

    Blocks may lie within each other. Between two of them, processes exchange arrays only directly
    after a block has ended: whatever may fail stands in one.

    Yields
    ------
    dict
        What the block knows, as JSON: with the key ``"notes"`` after it, the list of what all
        processes know.

    Raises
    ------
    ValueError
        In this process, if the block has failed in another one.
    """
    known: dict[str, Any] = {}
    if ranks.is_alone:
        yield known
        known["notes"] = [dict(known)]
        return
    try:
        yield known
    except Exception as error:
        _tell(ranks, error)
        raise
    told = [json.loads(text) for text in ranks.texts(json.dumps({"known": known}))]
    failed = [(rank, one["error"]) for rank, one in enumerate(told) if "error" in one]
    if failed:
        rank, reason = failed[0]
        told_error = ValueError(
            f"All processes of a fit must be able to take part in it, got an error in process "
            f"{rank} of {ranks.size}. {reason}"
        )
        setattr(told_error, TOLD, True)
        raise told_error
    known["notes"] = [one["known"] for one in told]


@contextmanager
def telling_errors() -> Iterator[None]:
    """Let the other processes hear of an error in a block that comes before a :func:`telling`."""
    try:
        yield
    except Exception as error:
        _tell(current_ranks(), error)
        raise


def _tell(ranks: Ranks, error: Exception) -> None:
    """Let the other processes hear of an error, unless they have or one of them is gone."""
    if ranks.is_alone or isinstance(error, LostProcessError) or getattr(error, TOLD, False):
        return
    ranks.texts(json.dumps({"error": f"{type(error).__name__}: {error}"}))
    setattr(error, TOLD, True)


@contextmanager
def launched_ranks(environment: Mapping[str, str]) -> Iterator[Ranks]:
    """Initialise the process group for a command that ``torchrun`` has launched, and end it.

    Parameters
    ----------
    environment : mapping of str to str
        With the variables of torchrun, such as ``WORLD_SIZE``; without them, a process is alone.
    """
    is_launched = int(environment.get("WORLD_SIZE", "1")) > 1 and "RANK" in environment
    if not is_launched or dist.is_initialized():
        yield current_ranks()
        return
    has_cards = torch.cuda.is_available() and dist.is_nccl_available()
    if has_cards:
        torch.cuda.set_device(int(environment.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if has_cards else "gloo", timeout=TIMEOUT)
    try:
        yield current_ranks()
    finally:
        dist.destroy_process_group()


def _device() -> torch.device:
    """Return where the messages of the process group are: NCCL sends from cards only."""
    on_card = dist.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if on_card else torch.device("cpu")


@contextmanager
def _asking() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo and NCCL have no error of their own
        raise LostProcessError(
            "All processes of a fit must run until its end, got no answer from another one: it "
            "has failed, was killed or does not call fit. Look at its output, and go on with "
            f"fit(X, resume_from=...) if there is a checkpoint. ({str(error).splitlines()[0]})"
        ) from error

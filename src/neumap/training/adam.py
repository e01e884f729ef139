"""Adam (Kingma & Ba 2015) as one call of torch's fused kernel.

The arithmetic is that of ``torch.optim.Adam(fused=True)``, the kernel the same. What is left out
is the class around it: making the first ``torch.optim`` optimiser of a process imports torch's
compiler, close to a second that a small fit does not take otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["FusedAdam"]


class FusedAdam:
    """Adam without weight decay, for float32 parameters on one device.

    Parameters
    ----------
    parameters : iterable of nn.Parameter
        Trained in place.
    lr : float, default=1e-3
        Step size; ``param_groups[0]["lr"]`` holds it and may be changed between steps.
    betas : tuple of float, default=(0.9, 0.95)
        Memory of the mean and of the mean square of the gradient.
    eps : float, default=1e-8
        Added to the root of the mean square.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
    ) -> None:
        trained = list(parameters)
        self.param_groups: list[dict[str, Any]] = [
            {"params": trained, "lr": lr, "betas": betas, "eps": eps}
        ]
        self._means = [torch.zeros_like(p) for p in trained]
        self._squares = [torch.zeros_like(p) for p in trained]
        self._counts = [torch.zeros((), device=p.device) for p in trained]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.param_groups[0]["params"]:
            parameter.grad = None

    @property
    def branch(self) -> tuple[bool, ...]:
        """What sets the arithmetic of the next step apart from that of others: nothing."""
        return ()

    def count(self) -> None:
        """Do nothing: steps are counted on the device, by :meth:`move`."""

    def step(self) -> None:
        """Move every parameter that has a gradient."""
        self.move(self.param_groups[0]["lr"])

    def move(self, lr: float | Tensor) -> None:
        """Do the arithmetic of a step; `lr` may be a float32 scalar on the device."""
        group = self.param_groups[0]
        moved = [i for i, p in enumerate(group["params"]) if p.grad is not None]
        if not moved:
            return
        parameters: list[Tensor] = [group["params"][i] for i in moved]
        with torch.no_grad():
            torch._foreach_add_([self._counts[i] for i in moved], 1.0)
            torch._fused_adam_(
                parameters,
                [p.grad for p in parameters],  # type: ignore[misc]
                [self._means[i] for i in moved],
                [self._squares[i] for i in moved],
                [],
                [self._counts[i] for i in moved],
                lr=lr,  # type: ignore[arg-type] # either, by two overloads
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=0.0,
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the memory of the gradients and the settings."""
        settings = {k: v for k, v in self.param_groups[0].items() if k != "params"}
        return {
            "means": self._means,
            "squares": self._squares,
            "counts": self._counts,
            "settings": settings,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put back what :meth:`state_dict` gave."""
        for name in ("means", "squares", "counts"):
            for own, given in zip(getattr(self, f"_{name}"), state_dict[name], strict=True):
                own.copy_(given)
        self.param_groups[0].update(state_dict["settings"])

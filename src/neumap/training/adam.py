"""Adam (Kingma & Ba 2015) as one call of torch's fused kernel.

The arithmetic and the kernel are those of ``torch.optim.Adam(fused=True)``. This class exists
because creating the first ``torch.optim`` optimiser of a process imports torch's compiler, which
takes close to a second. A small fit does not take longer than that.
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
        Learning rate. ``param_groups[0]["lr"]`` holds it and may be changed between steps. As in
        ``torch.optim``, it may be a scalar tensor on the device.
    betas : tuple of float, default=(0.9, 0.95)
        Decay rates of the running means of the gradient and of its square.
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
        """Delete all gradients."""
        for parameter in self.param_groups[0]["params"]:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        group = self.param_groups[0]
        moved = [i for i, p in enumerate(group["params"]) if p.grad is not None]
        if not moved:
            return
        parameters: list[Tensor] = [group["params"][i] for i in moved]
        torch._foreach_add_([self._counts[i] for i in moved], 1.0)
        torch._fused_adam_(
            parameters,
            [p.grad for p in parameters],  # type: ignore[misc]
            [self._means[i] for i in moved],
            [self._squares[i] for i in moved],
            [],
            [self._counts[i] for i in moved],
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=0.0,
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the running means, the step counts and the settings."""
        settings = {k: v for k, v in self.param_groups[0].items() if k != "params"}
        return {
            "means": self._means,
            "squares": self._squares,
            "counts": self._counts,
            "settings": settings,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        for name in ("means", "squares", "counts"):
            for own, given in zip(getattr(self, f"_{name}"), state_dict[name], strict=True):
                own.copy_(given)
        self.param_groups[0].update(state_dict["settings"])

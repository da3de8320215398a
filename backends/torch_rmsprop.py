"""RMSprop as Keras and Paddle compute it: epsilon stands inside the root, where torch's own adds it outside."""

from collections.abc import Iterable

import torch
from torch import Tensor


class RMSprop(torch.optim.RMSprop):
    """Each step is parameter -= lr * gradient / sqrt(square_avg + eps).

    `square_avg` is the running mean of the gradient's squares, which decays by `alpha`, Keras's rho. `slots` holds
    the tensor for that of each parameter, so that it can be loaded and read before the first step.
    """

    def __init__(
        self, parameters: Iterable[Tensor], slots: Iterable[Tensor], lr: float, alpha: float, eps: float
    ) -> None:
        super().__init__(parameters, lr=lr, alpha=alpha, eps=eps)
        (group,) = self.param_groups  # settings and their parameters
        for parameter, slot in zip(group["params"], slots, strict=True):
            # torch's own RMSprop counts its steps in "step", and needs it when it loads a file. Here it stays 0.
            self.state[parameter] = {"step": torch.zeros(()), "square_avg": slot}

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient, square_avg = parameter.grad, self.state[parameter]["square_avg"]
                # Names that end in _ work in place: addcmul_ adds a product, addcdiv_ a quotient, times `value`.
                square_avg.mul_(group["alpha"]).addcmul_(gradient, gradient, value=1 - group["alpha"])
                root = square_avg.add(group["eps"]).sqrt_()
                parameter.addcdiv_(gradient, root, value=-group["lr"])

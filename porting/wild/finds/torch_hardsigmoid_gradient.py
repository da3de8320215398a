"""torch's Hardsigmoid in float64 on the CPU: the output is right,
the gradient is 1/6 in float32."""

import torch

x = torch.ones(1, dtype=torch.float64, requires_grad=True)
y = torch.nn.functional.hardsigmoid(x)
y.sum().backward()
print(f"torch {torch.__version__}: output {y.item()!r}, expected {2 / 3!r}")
print(f"gradient {x.grad.item()!r}, expected {1 / 6!r}")

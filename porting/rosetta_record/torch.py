"""PyTorch, as a record needs it."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

from . import RecordError
from .framework import Computed, Described, Framework, States
from .values import DIGITS, arrays_in, name_of, precision_of


class Torch(Framework):
    name, children, unsaved = "torch", "_modules", "_non_persistent_buffers_set"
    base, whole = "nn.Module", ("nn.MultiheadAttention",)

    def exists(self, weight: Any) -> bool:
        # As those of lazy layers have until they are called.
        return not hasattr(weight, "materialize")

    def array(self, tensor: Any) -> NDArray[Any]:
        tensor = tensor.detach().cpu()
        if tensor.layout != self.api.strided:  # the gradient of a sparse embedding
            tensor = tensor.to_dense()
        if tensor.dtype == self.api.bfloat16:  # which NumPy lacks
            tensor = tensor.float()
        return np.asarray(tensor.numpy())

    def watch(self, layer: Any, computed: Computed) -> Callable[[], Any]:
        """A layer with a hook is computed by parts even without gradients,
        where torch has a fused way."""
        hook, unwatch = layer.register_forward_hook(lambda *_: None), super().watch(layer, computed)
        return lambda: (hook.remove(), unwatch())

    def pad(self, layer: Any, value: Any) -> Any:
        """The padded arrays have time where the layer has it in other arrays."""
        rnn = self.api.nn.utils.rnn
        if isinstance(value, rnn.PackedSequence):
            return rnn.pad_packed_sequence(value, batch_first=getattr(layer, "batch_first", True))[
                0
            ]
        if type(value) is dict:
            return {name: self.pad(layer, part) for name, part in value.items()}
        return tuple(self.pad(layer, part) for part in value) if type(value) is tuple else value

    def pack(self, layer: Any, value: Any, like: Any) -> Any:
        rnn = self.api.nn.utils.rnn
        if isinstance(like, rnn.PackedSequence):
            lengths = rnn.pad_packed_sequence(like)[1]
            batch_first = getattr(layer, "batch_first", True)
            return rnn.pack_padded_sequence(value, lengths, batch_first, enforce_sorted=False)
        if type(like) is dict:
            return {name: self.pack(layer, part, like[name]) for name, part in value.items()}
        if type(like) is tuple:
            return tuple(self.pack(layer, *both) for both in zip(value, like))
        return value

    def casts(self, seen: Callable[[str], Any]) -> Any:
        torch = self.api
        # Not before torch 2.1.
        is_compiling = getattr(getattr(torch, "compiler", None), "is_compiling", bool)

        class Watching(torch.overrides.TorchFunctionMode):  # type: ignore[misc, name-defined]
            def __torch_function__(
                self, function: Any, types: Any, arguments: Any = (), options: Any = None
            ) -> Any:
                output = function(*arguments, **(options or {}))
                # A program that is being compiled has no frames.
                # Without gradients nothing is known of weights.
                if not is_compiling() and torch.is_tensor(output) and output.requires_grad:
                    given = [
                        array
                        for array in arrays_in([arguments, options]).values()
                        if torch.is_tensor(array)
                    ]
                    digits = [
                        DIGITS.get(precision_of(array), 0) for array in given if array.requires_grad
                    ]
                    if DIGITS.get(precision_of(output), 52) < max(digits, default=0):
                        seen(precision_of(output))
                return output

        return Watching()

    def refuse_compiled(self, model: Any) -> None:
        is_script = isinstance(model, self.api.jit.ScriptModule)
        was_compiled = hasattr(model, "_orig_mod")
        if is_script or was_compiled:
            made = "torch.jit" if is_script else "torch.compile"
            raise RecordError(
                f"{made} made the model, whose layers cannot be watched; record the model before"
            )

    def autocast(self, layer: Any) -> str | None:
        # From torch 2.4 on; before, outputs alone tell it.
        if hasattr(self.api, "get_autocast_dtype"):
            for device in ("cpu", "cuda"):
                if self.api.is_autocast_enabled(device):
                    return name_of(self.api.get_autocast_dtype(device))
        return None

    def trainable(self, weight: Any) -> bool:
        return bool(weight.requires_grad)

    def flows(self, tensor: Any) -> Any:
        return tensor.requires_grad

    def optimizer(self, optimizer: Any) -> Described:
        groups = optimizer.param_groups
        weights = [weight for group in groups for weight in group["params"]]
        steps = sorted(
            {int(state["step"]) for state in optimizer.state.values() if "step" in state}
        )
        return Described(dict(groups[0], step=steps), weights, groups if len(groups) > 1 else ())

    def rate(self, optimizer: Any) -> Any:
        return optimizer.param_groups[0]["lr"]

    def put(self, weight: Any, array: NDArray[Any]) -> None:
        weight.detach().copy_(self.api.from_numpy(array))

    def tensor(self, array: NDArray[Any], like: Any) -> Any:
        return self.api.tensor(array).to(like)

    def states(self, model: Any) -> States:
        torch = self.api
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        return [(torch.set_rng_state, torch.get_rng_state()), (torch.cuda.set_rng_state_all, cuda)]

    def forget(self, model: Any) -> None:
        model.zero_grad(set_to_none=True)


FRAMEWORK = Torch()

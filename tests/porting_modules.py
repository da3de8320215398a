"""Models of layers that a dict describes, in torch or Paddle, whichever this process has imported. porting_torch.py
and porting_paddle.py make the layers and train; Keras's models are in porting_keras.py."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.porting_side import keep

api: Any = sys.modules.get("paddle") or sys.modules["torch"]
nn, IS_PADDLE = api.nn, api.__name__ == "paddle"
Layer, List = (nn.Layer, nn.LayerList) if IS_PADDLE else (nn.Module, nn.ModuleList)
FROZEN = ("stop_gradient", True) if IS_PADDLE else ("requires_grad", False)  # an attribute of a weight


class Recurrent(Layer):
    """A recurrent layer whose states (layers x directions, N, units) begin with the same number."""

    def __init__(self, inner: Any, states: int, units: int, time_first: bool, initial: float) -> None:
        super().__init__()
        self.inner, self.states, self.units = inner, states, units
        self.time_first, self.initial = time_first, initial

    def forward(self, x: Any) -> Any:
        state = api.full((self.states, x.shape[1 if self.time_first else 0], self.units), self.initial)
        return keep(self.inner(x, (state, state) if isinstance(self.inner, nn.LSTM) else state))[0]


class Attention(Layer):
    """An attention in which padding is masked; `mask` gives the options that say so, of ids (N, T)."""

    def __init__(self, inner: Any, mask: Callable[[Any], dict[str, Any]]) -> None:
        super().__init__()
        self.inner, self.mask = inner, mask

    def forward(self, x: Any, ids: Any) -> Any:
        output = keep(self.inner(x, x, x, **self.mask(ids)))
        return output[0] if isinstance(output, tuple) else output


class Scale(Layer):
    def __init__(self, factor: float, dtype: str = "float64") -> None:
        super().__init__()
        self.factor = float(np.dtype(dtype).type(factor))

    def forward(self, x: Any) -> Any:
        return x * self.factor


class ChannelsFirst(Layer):
    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Any) -> Any:
        return api.moveaxis(keep(self.inner(api.moveaxis(x, 1, 2))), 1, 2)


class Dense(Layer):
    def __init__(self, width: int, units: int, activation: Any) -> None:
        super().__init__()
        self.inner = nn.Linear(width, units)
        self.activation = activation

    def forward(self, x: Any) -> Any:
        return self.activation(keep(self.inner(x)))


class Model(Layer):
    """Each of `makers` makes a layer of a kind, of the width before it and its settings; `logits` makes the last one,
    of widths. In Paddle, whose dense kernels are transposed, a tied embedding is multiplied with."""

    def __init__(self, config: dict[str, Any], makers: dict[str, Callable[..., Any]], logits: Any) -> None:
        super().__init__()
        width = config["width"]
        self.embedding = nn.Embedding(config["words"], width, padding_idx=config.get("padding_idx"))
        self.layers = List()
        for one in config["layers"]:
            own = {name: one[name] for name in one if name not in ("kind", "frozen", "weight_of")}
            self.layers.append(makers[one["kind"]](width, **own))
            if "weight_of" in one:
                self.layers[-1].inner.weight = self.layers[one["weight_of"]].inner.weight
            for weight in self.layers[-1].parameters() if one.get("frozen") else ():
                setattr(weight, *FROZEN)
            width = one["units"] * (1 + one.get("both", False)) if "units" in one else width
        self.calls = config.get("calls", range(len(self.layers)))
        self.logits = None if config.get("tied") and IS_PADDLE else logits(width, config["words"])
        if config.get("tied") and self.logits is not None:
            self.logits.weight = self.embedding.weight
        getattr(self, "train" if config["training"] else "eval")()

    def forward(self, ids: Any) -> Any:
        x = keep(self.embedding(ids))
        for number in self.calls:
            one = self.layers[number]
            x = keep(one(x, ids) if isinstance(one, Attention) else one(x))
        return x @ self.embedding.weight.T if self.logits is None else keep(self.logits(x))


def update(model: Model, optimizer: Any, gradients: None) -> None:
    optimizer.step()


def squared(model: Any, batch: Any) -> Any:
    return model(batch).square().mean()


def small() -> Any:
    return nn.Linear(3, 2)

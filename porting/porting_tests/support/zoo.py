"""One zoo of models that a dict describes: layers,
the weights that NumPy makes, an arrangement, a mistake.

A model is an embedding, blocks and a dense layer. A block has one set of weights, which `arrange`
puts into layers as its `cut` says, as porters cut them: query, key and value in one array or three,
a norm of one's own or the framework's. It computes the same in each framework. The framework's
layers and operations are `api`, which is modules or in_keras.
"""

from collections.abc import Sequence
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rosetta_record.values import arrays_in

Array = NDArray[Any]
EPSILON = float(np.float32(1e-5))  # since Paddle keeps some constants in float32
Config = dict[str, Any]
Shapes = dict[str, tuple[int, ...]]
Ways = list[list[dict[str, Array]]]  # the arrays of each direction of each recurrent layer


KEPT: list[Array] = []  # what the layers of models gave, in the order in which they computed


def array_of(tensor: Any) -> Array:
    """A copy of a framework's tensor; of bfloat16, which NumPy lacks, in float32."""
    tensor = tensor.detach() if hasattr(tensor, "detach") else tensor
    if "bfloat16" in str(tensor.dtype) and hasattr(tensor, "float"):
        tensor = tensor.float()
    return np.array(tensor, order="C")


def keep(output: Any) -> Any:
    """Keep a copy of what a layer gave, since the next one may compute in place;
    gives the output back."""
    kinds = "Tracer", "KerasTensor", "SymbolicTensor"  # of what stands for values to come
    tensors = arrays_in(output).values()
    KEPT.extend(array_of(tensor) for tensor in tensors if not type(tensor).__name__.endswith(kinds))
    return output


def image_of(api: Any, x: Any) -> Any:
    """(N, T, M) as an image of one channel."""
    return x[..., None] if api.CHANNELS == "last" else x[:, None]


class Block:
    """A layer whose other base is the framework's class of layers. `config` says how its weights
    are arranged; `computed` says how it computes, which is something else where that is the planted
    mistake."""

    api: Any
    # Of the weights that NumPy makes, or of each kind's: names of sizes, or products.
    axes: ClassVar[str | dict[str, str]] = ""
    w: dict[str, Array]  # the weights as no framework has them: kernels are (inputs, outputs)
    config: Config
    computed: Config

    @classmethod
    def shapes(cls, config: Config, width: int) -> Shapes:
        """Shapes of the weights, by the configuration's sizes and the model's width."""
        sizes = {**config, "width": width}

        def shape(axes: str) -> tuple[int, ...]:
            return tuple(
                prod(int(sizes.get(name, name)) for name in axis.split("*"))
                for axis in axes.split()
            )

        axes = cls.axes if isinstance(cls.axes, str) else cls.axes[config["kind"]]
        weights = dict(weight.split(": ") for weight in axes.split(", ") if weight)
        return {name: shape(axes) for name, axes in weights.items()}

    def compute(self, x: Any, ids: Any = None) -> Any:
        """(N, T, width) of `x` of this shape and of `ids` (N, T)."""
        return keep(self.inner(x))

    def own(self, name: str, array: Array) -> None:
        """Make a parameter of this layer's own."""
        self.api.parameter(self, name, array)

    def pack(self, groups: int, biased: bool = False) -> None:
        """Make the dense layers that the cut names, such as "q k+v"; of "k+v" the outputs stand
        side by side, in each of the groups where it begins with "grouped "."""
        number, packs = packs_of(self.config["cut"], groups)
        for pack in packs:
            kernel = side_by_side([self.w[name] for name in pack], number)
            bias = (
                side_by_side([self.w[f"{name}_bias"] for name in pack], number) if biased else None
            )
            setattr(self, "_".join(pack), self.api.dense(kernel, bias))

    def projected(self, x: Any, groups: int) -> dict[str, Any]:
        """The outputs of the cut's dense layers, by name."""
        number, packs = packs_of(self.computed["cut"], groups)
        found = {}
        for pack in packs:
            whole = self.api.reshape(getattr(self, "_".join(pack))(x), (*x.shape[:2], number, -1))
            start = 0
            for name in pack:
                end = start + self.w[name].shape[1] // number
                found[name] = self.api.reshape(whole[..., start:end], (*x.shape[:2], -1))
                start = end
        return found


def packs_of(cut: str, groups: int) -> tuple[int, list[list[str]]]:
    """In how many groups outputs stand side by side, and the names of those that do."""
    packs = [pack.split("+") for pack in cut.removeprefix("grouped ").split()]
    return groups if cut.startswith("grouped ") else 1, packs


def side_by_side(arrays: Sequence[Array], groups: int) -> Array:
    parts = [array.reshape(*array.shape[:-1], groups, -1) for array in arrays]
    return np.concatenate(parts, -1).reshape(*arrays[0].shape[:-1], -1)


class Dense(Block):
    axes = "kernel: width width, bias: width"

    def arrange(self) -> None:
        self.inner = self.api.dense(self.w["kernel"], self.w["bias"])
        self.activation = self.api.activation(
            self.config.get("activation", ""), self.computed.get("by_tanh", False)
        )

    def compute(self, x: Any, ids: Any) -> Any:
        return self.activation(keep(self.inner(x)))


class Dropout(Block):
    def arrange(self) -> None:
        self.inner = self.api.dropout(self.config["rate"])


class OfChannels(Block):
    """A convolution along time or a batch norm,
    before which torch and Paddle have the channels first."""

    axes: ClassVar = {
        "conv": "kernel: 3 width width, bias: width",
        "batchnorm": "gain: width, bias: width",
    }

    def arrange(self) -> None:
        if self.config["kind"] == "conv":
            self.inner = self.api.conv(self.w["kernel"], self.w["bias"])
        else:
            self.inner = self.api.batchnorm(
                self.w["gain"], self.w["bias"], self.computed["momentum"]
            )

    def compute(self, x: Any, ids: Any) -> Any:
        if self.api.CHANNELS == "last":
            return keep(self.inner(x))
        return self.api.transpose(keep(self.inner(self.api.transpose(x, (0, 2, 1)))), (0, 2, 1))


class Attention(Block):
    """Attention of grouped heads. The framework's own may mask "padding", or "words" by mistake,
    and another one be "causal", or that one position too far. The softmax may be over
    the queries."""

    axes = (
        "q: width heads*size, k: width groups*size, v: width groups*size, o: heads*size width, "
        "q_bias: heads*size, k_bias: groups*size, v_bias: groups*size, o_bias: width"
    )

    def arrange(self) -> None:
        if self.config["cut"] == "framework":
            self.inner = self.api.attention(self.config["heads"], self.w)
            return
        for name in ("q", "k", "q_bias", "k_bias") if self.config["rope"] == "interleaved" else ():
            halves = self.w[name].reshape(*self.w[name].shape[:-1], -1, 2, self.config["size"] // 2)
            self.w[name] = halves.swapaxes(-1, -2).reshape(self.w[name].shape)
        self.pack(self.config["groups"], self.config["bias"])
        self.out = self.api.dense(self.w["o"], self.w["o_bias"] if self.config["bias"] else None)

    def compute(self, x: Any, ids: Any) -> Any:
        api, groups, size = self.api, self.config["groups"], self.config["size"]
        if self.config["cut"] == "framework":
            mask = self.computed.get("mask")
            return api.attend(
                self.inner, x, ((ids == 0) if mask == "padding" else (ids != 0)) if mask else None
            )
        shape = (*x.shape[:2], groups, -1, size)
        projected = {
            name: api.reshape(one, shape) for name, one in self.projected(x, groups).items()
        }
        q, k, v = self._rotated(projected["q"]), self._rotated(projected["k"]), projected["v"]
        in_turns = self.computed.get("heads order")  # the heads that have the same key stand apart
        if in_turns:
            q = api.transpose(api.reshape(q, (*x.shape[:2], -1, groups, size)), (0, 1, 3, 2, 4))
        scores = api.einsum("ntghd,nsgod->nghts", q, k) * self.computed.get("scale", size**-0.5)
        scores = scores + self._mask(x.shape[1])
        if self.computed.get("softmax") == "queries":
            of_queries = api.softmax(api.transpose(scores, (0, 1, 2, 4, 3)))
            scores = api.transpose(of_queries, (0, 1, 2, 4, 3))
        else:
            scores = api.softmax(scores)
        found = api.einsum("nghts,nsgod->ntghd", scores, v)
        found = api.transpose(found, (0, 1, 3, 2, 4)) if in_turns else found
        return self.out(api.reshape(found, (*x.shape[:2], -1)))

    def _mask(self, time: int) -> Any:
        far = {"causal": 1, "causal, one position too far": 2}.get(self.computed.get("mask"), time)
        return self.api.constant(-1e9 * np.triu(np.ones((time, time)), far))

    def _rotated(self, x: Any) -> Any:
        """Rotary embeddings of (N, T, groups, heads, size)."""
        order, api, half = self.computed["rope"], self.api, self.config["size"] // 2
        if not order:
            return x
        angles = np.arange(x.shape[1])[:, None] / self.computed.get("base", 10.0) ** (
            np.arange(half) / half
        )
        cos, sin = (api.constant(wave(angles)[:, None, None]) for wave in (np.cos, np.sin))
        one, two = (
            (x[..., :half], x[..., half:]) if order == "halves" else (x[..., ::2], x[..., 1::2])
        )
        rotated = one * cos - two * sin, two * cos + one * sin
        if order == "halves":
            return api.concat(rotated)
        return api.reshape(api.concat([part[..., None] for part in rotated]), tuple(x.shape))


class Mlp(Block):
    """SwiGLU."""

    axes = "gate: width units, up: width units, down: units width"

    def arrange(self) -> None:
        self.pack(self.config["units"])
        self.down = self.api.dense(self.w["down"])

    def compute(self, x: Any, ids: Any) -> Any:
        found = self.projected(x, self.config["units"])
        gate = self.computed.get("gate", "gate")  # or the other one
        return self.down(self.api.silu(found.pop(gate)) * found.popitem()[1])


class Image(Block):
    """A convolution of (N, T, M) as an image with one channel,
    and a dense layer of all that comes of it."""

    axes = "kernel: 3 3 1 channels, bias: channels, dense: time*width*channels width"

    def arrange(self) -> None:
        kernel = self.w["dense"]
        if self.config["cut"] == "first":
            kernel = np.moveaxis(
                kernel.reshape(-1, self.config["channels"], kernel.shape[-1]), 1, 0
            )
        self.conv = self.api.conv(self.w["kernel"], self.w["bias"])
        self.dense = self.api.dense(kernel.reshape(self.w["dense"].shape))

    def compute(self, x: Any, ids: Any) -> Any:
        api, cut = self.api, self.computed["cut"]
        image = self.conv(image_of(api, x))
        if cut != api.CHANNELS:
            image = api.transpose(image, (0, 3, 1, 2) if cut == "first" else (0, 2, 3, 1))
        return x + self.dense(api.tanh(api.reshape(image, (x.shape[0], -1))))[:, None]


class ConvNet(Block):
    """Two convolutions of (N, T, M) as an image, and a mean over all positions. The second has a
    stride, a dilation or a padding."""

    axes = (
        "first: 3 3 1 channels, second: 3 3 channels channels, first_bias: channels, "
        "second_bias: channels, dense: channels width"
    )

    def arrange(self) -> None:
        settings = {name: self.computed.get(name, 1) for name in ("stride", "dilation")}
        self.first = self.api.conv(self.w["first"], self.w["first_bias"])
        self.second = self.api.conv(self.w["second"], self.w["second_bias"], pad=0, **settings)
        self.dense = self.api.dense(self.w["dense"])

    def compute(self, x: Any, ids: Any) -> Any:
        api = self.api
        image = api.tanh(self.first(image_of(api, x)))
        before, after = self.computed.get("pad", (1, 1))
        image = api.tanh(self.second(api.padded(image, before, after)))
        axes = (1, 2) if api.CHANNELS == "last" else (2, 3)
        return x + self.dense(api.average(image, axes))[:, None]


class Positions(Block):
    """An embedding of positions, which is added to what it takes."""

    axes = "table: 2*time width"

    def arrange(self) -> None:
        self.table = self.api.embedding(self.w["table"], None)

    def compute(self, x: Any, ids: Any) -> Any:
        first = self.computed.get("first", 0)
        return x + keep(self.table(self.api.whole(np.arange(first, first + x.shape[1]))))


class FeedForward(Block):
    """A norm, two dense layers with an activation between, and a residual around all. The residual
    may be otherwise: "post" norms the sum, "normed" adds to what is normed, and "none" to
    nothing."""

    axes = (
        "gain: width, shift: width, up: width units, up_bias: units, down: units width, down_bias: "
        "width"
    )

    def arrange(self) -> None:
        api = self.api
        w = self.w
        norm = {"kind": "layernorm", "cut": "framework", **self.computed.get("norm", {})}
        self.norm = made(api, Norm, api.Layer, {name: w[name] for name in ("gain", "shift")}, norm)
        self.up, self.down = (api.dense(w[name], w[f"{name}_bias"]) for name in ("up", "down"))
        self.activation = api.activation(
            self.computed.get("activation", "relu"), self.computed.get("by_tanh", False)
        )

    def compute(self, x: Any, ids: Any) -> Any:
        residual = self.computed.get("residual", "pre")
        if residual == "post":
            return self.norm(x + self._inner(x))
        normed = self.norm(x)
        return self._inner(normed) + {"pre": x, "normed": normed, "none": 0.0}[residual]

    def _inner(self, x: Any) -> Any:
        return self.down(self.activation(self.up(x)))


class Recurrent(Block):
    """An LSTM, a GRU or a plain RNN. `lengths` is whether padding is left out; `one_bias` whether
    the second bias is zero and is not trained, since Keras has none."""

    @staticmethod
    def shapes(config: Config, width: int) -> Shapes:
        units, ways = config["units"], range(1 + config.get("both", True))
        gates = {"rnn": 1, "gru": 3, "lstm": 4}[config["of"]] * units
        found = {"out": (len(ways) * units, width)}
        for layer in range(config.get("layers", 1)):
            inputs = len(ways) * units if layer else width
            one = {
                "kernel": (inputs, gates),
                "recurrent": (units, gates),
                "bias": (gates,),
                "recurrent_bias": (gates,),
            }
            found |= {f"{name}{layer}{way}": shape for way in ways for name, shape in one.items()}
        return found

    def arrange(self) -> None:
        api, kind = self.api, self.config["of"]
        if self.config.get("one_bias"):
            self.w |= {
                name: np.zeros_like(array)
                for name, array in self.w.items()
                if name.startswith("recurrent_bias")
            }
        layers: Ways = []
        for end in sorted({name[-2:] for name in self.w if name != "out"}):
            layers += [[]] if end[1] == "0" else []
            layers[-1].append(
                {name[:-2]: array for name, array in self.w.items() if name.endswith(end)}
            )
        if self.config["cut"] == "both":
            self.inner = api.recurrent(kind, layers, self.computed)
        else:
            ((there, back),) = layers
            self.there = api.recurrent(kind, [[there]], self.computed)
            self.back = api.recurrent(kind, [[back]], self.computed, backwards=True)
        self.out = api.dense(self.w["out"])

    def compute(self, x: Any, ids: Any) -> Any:
        ids, initial = ids if self.computed.get("lengths") else None, self.computed.get("initial")
        if self.config["cut"] == "both":
            found = self.api.sequence(self.inner, x, ids, initial)
        else:
            there, back = (
                self.api.sequence(one, x, ids, initial, one is self.back)
                for one in (self.there, self.back)
            )
            found = self.api.concat([there, back])
        real = self.api.one_where_real(ids, found) if ids is not None else 1.0
        return keep(self.out(found * real))


class WeightNormed(Block):
    axes = "g: width, v: width width, bias: width"

    def arrange(self) -> None:
        self.inner = self.api.weight_normed(self.w["g"], self.w["v"], self.w["bias"])

    def compute(self, x: Any, ids: Any) -> Any:
        return self.api.tanh(self.inner(x))


class Norm(Block):
    """LayerNorm or RMSNorm, of one's own where `cut` is "own" or the framework has none."""

    axes: ClassVar = {"layernorm": "gain: width, shift: width", "rmsnorm": "gain: width"}

    def arrange(self) -> None:
        kind = self.config["kind"]
        own = self.config["cut"] == "own" or self.config["kind"] not in self.api.NORMS
        self.inner = (
            None if own else self.api.norm(kind, self.w, self.computed.get("epsilon", EPSILON))
        )
        for name, array in self.w.items() if own else ():
            self.own(name, array)

    def compute(self, x: Any, ids: Any = None) -> Any:
        if self.inner is not None:
            return keep(self.inner(x))
        if self.computed["kind"] == "layernorm":
            x = x - self.api.mean(x)
        square, epsilon = self.api.mean(x * x), self.computed.get("epsilon", EPSILON)
        if self.computed.get("unbiased"):
            square = square * (x.shape[-1] / (x.shape[-1] - 1))
        root = square**0.5 + epsilon if self.computed.get("outside") else (square + epsilon) ** 0.5
        x = x / root * (self.gain + self.computed.get("plus", 0.0))
        return x + self.shift if "shift" in self.w else x


class Model(Block):
    """Blocks, each behind a norm and with a residual where the configuration has a `norm`. Where
    the table is `tied`, the logits are computed with it too."""

    def arrange(self) -> None:
        api, config, rng = self.api, self.config, np.random.default_rng(self.config["seed"])
        words, width = config["words"], config["width"]
        # Numbers are small since Paddle clips logits (docs/deviations.md#paddle-log-softmax-clip).
        table, head = 0.5 * rng.normal(size=(words, width)), 0.5 * rng.normal(size=(width, words))
        blocks = [block(api, one, width, rng) for one in config["blocks"]]
        norms = [block(api, config["norm"], width, rng) for _ in blocks if "norm" in config]
        if config.get("padding_idx") is not None:
            table[config["padding_idx"]] = 0.0
        if config.get("tied"):
            head = table.T
        self.embedding = api.embedding(table, self.computed.get("padding_idx"))
        self.norms, self.blocks = api.List(norms), api.List(blocks)
        self.head = None if self.computed.get("tied") and not api.TIES else api.dense(head)
        if self.computed.get("tied") and api.TIES:
            api.share(self.head, self.embedding)
        for one in blocks:
            if one.config.get("frozen"):
                api.freeze(one)
            if "weight_of" in one.config:
                api.share(one.inner, blocks[one.config["weight_of"]].inner)

    def compute(self, ids: Any) -> Any:
        x = keep(self.embedding(ids))
        x = x * self.config["width"] ** 0.5 if self.computed.get("scaled") else x
        for number in self.config.get("calls", range(len(self.blocks))):
            one = self.blocks[number]
            x = x + one(self.norms[number](x), ids) if "norm" in self.config else keep(one(x, ids))
        if self.head is None:
            return x @ self.api.transpose(getattr(self.embedding, self.api.TABLE), (1, 0))
        return keep(self.head(x))


KINDS: dict[str, Any] = {kind.__name__.lower(): kind for kind in Block.__subclasses__()}
KINDS |= {"layernorm": Norm, "rmsnorm": Norm, "weight_norm": WeightNormed}
KINDS |= {"conv": OfChannels, "batchnorm": OfChannels}


def exchanged(*names: str) -> Any:
    """The first and second of these weights in each other's place, and so on."""
    return lambda w: w.update({one: w[names[place ^ 1]] for place, one in enumerate(names)})


def changed(name: str, change: Any) -> Any:
    return lambda w: w.update({name: np.ascontiguousarray(change(w[name]))})


DIRECTIONS = [
    f"{name}0{way}" for name in ("kernel", "recurrent", "bias", "recurrent_bias") for way in (0, 1)
]
# Mistakes of a converter, in the weights of one block.
MISTAKES = {
    "keys and values exchanged": exchanged("k", "v", "k_bias", "v_bias"),
    "gate and up exchanged": exchanged("gate", "up"),
    "directions exchanged": exchanged(*DIRECTIONS),
    "gate order": changed(
        "recurrent00", lambda k: k.reshape(len(k), 4, -1)[:, [0, 1, 3, 2]].reshape(k.shape)
    ),
    "transposed square kernel": changed("kernel", np.transpose),
    "image transposed": changed("kernel", lambda k: k.swapaxes(0, 1)),
    "gains in another order": changed("g", lambda g: np.roll(g, 1)),
    "gain and shift exchanged": exchanged("gain", "shift"),
}


def block(api: Any, config: Config, width: int, rng: np.random.Generator) -> Any:
    """A block of a model of this width, which sizes that the configuration lacks follow from."""
    kind, config = KINDS[config["kind"]], {"size": width // 2, "units": width, **config}
    w = {name: 0.5 * rng.normal(size=shape) for name, shape in kind.shapes(config, width).items()}
    if "mistake" in config:
        MISTAKES[config["mistake"]](w)
    return made(api, kind, api.Layer, w, config)


def made(api: Any, kind: type, base: type, w: dict[str, Array], config: Config) -> Any:
    """A layer of this kind. What it is made of is its class's,
    since Keras keeps what constructors are given."""
    computed = {**config, **config.get("computed", {})}
    layer = type(
        kind.__name__, (kind, base), {"api": api, "w": w, "config": config, "computed": computed}
    )()
    layer.arrange()
    return layer


def model_of(api: Any, config: Config, ids: Array) -> Any:
    api.begin(config)
    return api.given(made(api, Model, api.Model, {}, config), config, ids)


def loss_of(api: Any, model: Any, batch: dict[str, Array], config: Config) -> tuple[Any, Any]:
    """The cross-entropy of smoothed labels, in float32 where logits are coarser; and the logits.

    As `loss` says, labels may be shifted, the positions that count those that are real, and what is
    divided by their number, by that of all, by rows, or by 1 for a sum; the softmax may be taken of
    probabilities; and gradients may be so many times as large as those of the loss."""
    smoothing, words, how = config.get("smoothing", 0.0), config["words"], config.get("loss", {})
    logits = api.run(model, batch["ids"], config)
    targets = batch["targets"]
    counts = np.ones(batch["ids"].shape)
    if how.get("counts") == "real":
        counts = 1.0 * (batch["ids"] != 0)
    shift = how.get("shift", 0)
    found = logits if config["dtype"] == "float64" else api.in_float32(logits)
    found = api.softmax(found) if how.get("twice") else found
    found = found[:, : found.shape[1] - shift]
    targets = targets[:, shift:]
    counts = counts[:, shift:]
    wanted = ((1 - smoothing) * np.eye(words)[targets] + smoothing / words) * counts[..., None]
    divisors = {"counts": counts.sum(), "all": counts.size, "rows": len(counts), "nothing": 1}
    total = api.einsum("ntw,ntw->", api.constant(wanted, found), api.log_softmax(found))
    loss = -total / divisors[how.get("over", "counts")]
    return loss + (how.get("times", 1) - 1) * (loss - api.constant_of(loss)), logits

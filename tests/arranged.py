"""Models whose weights are cut as porters cut them: query, key and value in one array or three, experts packed or a
list, a norm of one's own or the framework's.

Each block has one set of weights, which `arrange` puts into layers as its `cut` says, and computes the same in each
framework. The framework's layers and operations are `api`, which is arranged_keras or arranged_modules.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.porting_side import Array

EPSILON = float(np.float32(1e-5))  # since Paddle keeps some constants in float32
Config = dict[str, Any]
Shapes = dict[str, tuple[int, ...]]


class Block:
    """A layer whose other base is the framework's class of layers. `config` says how its weights are arranged;
    `computed` says how it computes, which is something else where that is the planted mistake."""

    api: Any
    w: dict[str, Array]  # the weights as no framework has them: kernels are (inputs, outputs)
    config: Config
    computed: Config

    def own(self, name: str, array: Array) -> None:
        """Make a parameter of this layer's own."""
        self.api.parameter(self, name, array)

    def pack(self, groups: int, biased: bool = False) -> None:
        """Make the dense layers that the cut names, such as "q k+v"; of "k+v" the outputs stand side by side, in each
        of the groups where it begins with "grouped "."""
        number, packs = packs_of(self.config["cut"], groups)
        for pack in packs:
            kernel = side_by_side([self.w[name] for name in pack], number)
            bias = side_by_side([self.w[f"{name}_bias"] for name in pack], number) if biased else None
            setattr(self, "_".join(pack), self.api.dense(kernel, bias))

    def projected(self, x: Any, groups: int) -> dict[str, Any]:
        """What the dense layers of the cut give, by its names."""
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


class Attention(Block):
    @staticmethod
    def shapes(config: Config, width: int) -> Shapes:
        queries, keys = config["heads"] * config["size"], config["groups"] * config["size"]
        kernels = {"q": (width, queries), "k": (width, keys), "v": (width, keys), "o": (queries, width)}
        return kernels | {f"{name}_bias": shape[1:] for name, shape in kernels.items()}

    def arrange(self) -> None:
        if self.config["cut"] == "framework":
            self.inner = self.api.attention(self.config["heads"], self.w)
            return
        for name in ("q", "k", "q_bias", "k_bias") if self.config["rope"] == "interleaved" else ():
            halves = self.w[name].reshape(*self.w[name].shape[:-1], -1, 2, self.config["size"] // 2)
            self.w[name] = halves.swapaxes(-1, -2).reshape(self.w[name].shape)
        self.pack(self.config["groups"], self.config["bias"])
        self.out = self.api.dense(self.w["o"], self.w["o_bias"] if self.config["bias"] else None)

    def forward(self, x: Any, ids: Any) -> Any:
        api, groups, size = self.api, self.config["groups"], self.config["size"]
        if self.config["cut"] == "framework":
            return api.attend(self.inner, x)
        shape = (*x.shape[:2], groups, -1, size)
        projected = {name: api.reshape(one, shape) for name, one in self.projected(x, groups).items()}
        q, k = self._rotated(projected["q"]), self._rotated(projected["k"])
        if self.computed.get("heads order"):  # each query has the key of another group
            q = api.transpose(api.reshape(q, (*x.shape[:2], -1, groups, size)), (0, 1, 3, 2, 4))
        scores = api.softmax(api.einsum("ntghd,nsgod->nghts", q, k) / size**0.5)
        return self.out(api.reshape(api.einsum("nghts,nsgod->ntghd", scores, projected["v"]), (*x.shape[:2], -1)))

    def _rotated(self, x: Any) -> Any:
        """Rotary embeddings of (N, T, groups, heads, size)."""
        order, api, half = self.computed["rope"], self.api, self.config["size"] // 2
        if not order:
            return x
        angles = np.arange(x.shape[1])[:, None] / 10.0 ** (np.arange(half) / half)
        cos, sin = (api.constant(wave(angles)[:, None, None]) for wave in (np.cos, np.sin))
        one, two = (x[..., :half], x[..., half:]) if order == "halves" else (x[..., ::2], x[..., 1::2])
        rotated = one * cos - two * sin, two * cos + one * sin
        if order == "halves":
            return api.concat(rotated)
        return api.reshape(api.concat([part[..., None] for part in rotated]), tuple(x.shape))


class Mlp(Block):
    """SwiGLU."""

    @staticmethod
    def shapes(config: Config, width: int) -> Shapes:
        units = config["units"]
        return {"gate": (width, units), "up": (width, units), "down": (units, width)}

    def arrange(self) -> None:
        self.pack(self.config["units"])
        self.down = self.api.dense(self.w["down"])

    def forward(self, x: Any, ids: Any) -> Any:
        found = self.projected(x, self.config["units"])
        return self.down(self.api.silu(found["gate"]) * found["up"])


class Experts(Block):
    """All experts compute, and a router weighs them."""

    @staticmethod
    def shapes(config: Config, width: int) -> Shapes:
        number, units = config["experts"], config["units"]
        return {"router": (width, number), "w1": (number, width, units), "w2": (number, units, width)}

    def arrange(self) -> None:
        api, cut = self.api, self.config["cut"]
        self.router = api.dense(self.w["router"])
        for name in ("w1", "w2"):
            if cut == "list":
                setattr(self, name, api.List([api.dense(kernel) for kernel in self.w[name]]))
            else:
                self.own(name, self.w[name].swapaxes(1, 2) if cut == "turned" else self.w[name])

    def forward(self, x: Any, ids: Any) -> Any:
        api, cut = self.api, self.config["cut"]
        if cut == "list":
            each = [second(api.silu(first(x))) for first, second in zip(self.w1, self.w2, strict=True)]
            found = api.concat([one[..., None] for one in each])  # (N, T, M, E)
        else:
            one, two = ("ekm", "emk") if cut == "turned" else ("emk", "ekm")
            found = api.einsum(f"ntek,{two}->ntme", api.silu(api.einsum(f"ntm,{one}->ntek", x, self.w1)), self.w2)
        return api.einsum("ntme,nte->ntm", found, api.softmax(self.router(x)))


class Stack(Block):
    """Layers of one shape."""

    @staticmethod
    def shapes(config: Config, width: int) -> Shapes:
        return {"kernel": (config["layers"], width, width), "bias": (config["layers"], width)}

    def arrange(self) -> None:
        api, kernels, biases = self.api, self.w["kernel"], self.w["bias"]
        if self.config["cut"] == "list":
            self.layers_ = api.List([api.dense(*both) for both in zip(kernels, biases, strict=True)])
        else:
            self.own("kernels", kernels.swapaxes(0, 1) if self.config["cut"] == "second" else kernels)
            self.own("biases", biases)

    def forward(self, x: Any, ids: Any) -> Any:
        for number in range(self.config["layers"]):
            if self.config["cut"] == "list":
                x = self.api.tanh(self.layers_[number](x))
            else:
                kernel = self.kernels[:, number] if self.config["cut"] == "second" else self.kernels[number]
                x = self.api.tanh(x @ kernel + self.biases[number])
        return x


class Image(Block):
    """A convolution of (N, T, M) as an image with one channel, and a dense layer of all of it."""

    @staticmethod
    def shapes(config: Config, width: int) -> Shapes:
        channels = config["channels"]
        inputs = config["time"] * width * channels
        return {"kernel": (3, 3, 1, channels), "bias": (channels,), "dense": (inputs, width)}

    def arrange(self) -> None:
        kernel = self.w["dense"]
        if self.config["cut"] == "first":
            kernel = np.moveaxis(kernel.reshape(-1, self.config["channels"], kernel.shape[-1]), 1, 0)
        self.conv = self.api.conv(self.w["kernel"], self.w["bias"])
        self.dense = self.api.dense(kernel.reshape(self.w["dense"].shape))

    def forward(self, x: Any, ids: Any) -> Any:
        api, cut = self.api, self.computed["cut"]
        image = self.conv(x[..., None] if api.CHANNELS == "last" else x[:, None])
        if cut != api.CHANNELS:
            image = api.transpose(image, (0, 3, 1, 2) if cut == "first" else (0, 2, 3, 1))
        return self.dense(api.tanh(api.reshape(image, (x.shape[0], -1))))[:, None]


class Recurrent(Block):
    """A GRU or an LSTM in both directions; `lengths` is whether padding is left out."""

    @staticmethod
    def shapes(config: Config, width: int) -> Shapes:
        units = config["units"]
        gates = {"gru": 3, "lstm": 4}[config["of"]] * units
        one = {"kernel": (width, gates), "recurrent": (units, gates), "bias": (gates,), "recurrent_bias": (gates,)}
        return {f"{name}{way}": shape for way in (0, 1) for name, shape in one.items()} | {"out": (2 * units, width)}

    def arrange(self) -> None:
        api, kind = self.api, self.config["of"]
        ways = [{name[:-1]: array for name, array in self.w.items() if name.endswith(str(way))} for way in (0, 1)]
        if self.config["cut"] == "both":
            self.inner = api.recurrent(kind, ways)
        else:
            self.there, self.back = api.recurrent(kind, ways[:1]), api.recurrent(kind, ways[1:], backwards=True)
        self.out = api.dense(self.w["out"])

    def forward(self, x: Any, ids: Any) -> Any:
        ids = ids if self.computed["lengths"] else None
        if self.config["cut"] == "both":
            found = self.api.sequence(self.inner, x, ids)
        else:
            there, back = (self.api.sequence(one, x, ids, one is self.back) for one in (self.there, self.back))
            found = self.api.concat([there, back])
        real = self.api.one_where_real(ids, found) if ids is not None else 1.0
        return self.out(found * real)


def recurrent_arrays(kind: str, ways: Sequence[dict[str, Array]]) -> dict[str, Array]:
    """The arrays of each direction by the names and in the layout of torch and Paddle."""
    names = {"kernel": "weight_ih", "recurrent": "weight_hh", "bias": "bias_ih", "recurrent_bias": "bias_hh"}
    gates, found = {"gru": (1, 0, 2), "lstm": (0, 1, 2, 3)}[kind], {}  # of Keras, in the order of torch and Paddle
    for way, suffix in zip(ways, ("", "_reverse"), strict=False):
        for own, name in names.items():
            blocks = way[own].reshape(*way[own].shape[:-1], len(gates), -1)[..., gates, :]
            found[f"{name}_l0{suffix}"] = blocks.reshape(way[own].shape).T
    return found


class WeightNormed(Block):
    @staticmethod
    def shapes(config: Config, width: int) -> Shapes:
        return {"g": (width,), "v": (width, width), "bias": (width,)}

    def arrange(self) -> None:
        self.inner = self.api.weight_normed(self.w["g"], self.w["v"], self.w["bias"])

    def forward(self, x: Any, ids: Any) -> Any:
        return self.api.tanh(self.inner(x))


class Norm(Block):
    """LayerNorm or RMSNorm, of one's own where `cut` is "own"."""

    @staticmethod
    def shapes(config: Config, width: int) -> Shapes:
        return {"gain": (width,)} | ({"shift": (width,)} if config["kind"] == "layernorm" else {})

    def arrange(self) -> None:
        if self.config["cut"] == "framework":
            self.inner = self.api.norm(self.config["kind"], self.w)
        else:
            for name, array in self.w.items():
                self.own(name, array)

    def forward(self, x: Any) -> Any:
        if self.config["cut"] == "framework":
            return self.inner(x)
        if self.computed["kind"] == "layernorm":
            x = x - self.api.mean(x)
        x = x / (self.api.mean(x * x) + EPSILON) ** 0.5 * self.gain
        return x + self.shift if "shift" in self.w else x


class Model(Block):
    """Blocks with residuals and a norm before each. The table may have rows of padding at its end."""

    def arrange(self) -> None:
        api, width, rng = self.api, self.config["width"], np.random.default_rng(self.config["seed"])
        words, padding = self.config["words"], self.config.get("padding", 0)
        table, head = rng.normal(size=(words, width)), rng.normal(size=(width, words))
        blocks = [block(api, config, width, rng) for config in self.config["blocks"]]
        norms = [block(api, self.config["norm"], width, rng) for _ in blocks]
        table = np.concatenate([table, np.random.default_rng(7).normal(size=(padding, width))])
        self.embedding = api.embedding(np.roll(table, 1, 0) if self.config.get("shifted") else table)
        self.norms, self.blocks, self.head = api.List(norms), api.List(blocks), api.dense(head)

    def forward(self, ids: Any) -> Any:
        x = self.embedding(ids)
        for norm, one in zip(self.norms, self.blocks, strict=True):
            x = x + one(norm(x), ids)
        return self.head(x)


KINDS = {
    "attention": Attention,
    "mlp": Mlp,
    "experts": Experts,
    "stack": Stack,
    "image": Image,
    "recurrent": Recurrent,
    "weight_norm": WeightNormed,
    "layernorm": Norm,
    "rmsnorm": Norm,
}


def exchanged(*names: str) -> Any:
    """The first and second of these weights in each other's place, and so on."""
    return lambda w: w.update({one: w[names[place ^ 1]] for place, one in enumerate(names)})


def reordered(axis: int, *names: str) -> Any:
    """The last of the weights along this axis first."""
    return lambda w: w.update({name: np.roll(w[name], 1, axis) for name in names})


def changed(name: str, change: Any) -> Any:
    return lambda w: w.update({name: np.ascontiguousarray(change(w[name]))})


DIRECTIONS = [f"{name}{way}" for name in ("kernel", "recurrent", "bias", "recurrent_bias") for way in (0, 1)]
# Mistakes of a converter, in the weights of one block.
MISTAKES = {
    "key and value exchanged": exchanged("k", "v"),
    "biases exchanged": exchanged("k_bias", "v_bias"),
    "gate and up exchanged": exchanged("gate", "up"),
    "heads in another order": changed("o", lambda o: o.reshape(2, -1, o.shape[1]).swapaxes(0, 1).reshape(o.shape)),
    "experts exchanged": reordered(0, "w1", "w2"),
    "an expert transposed": changed("w1", lambda w: w.swapaxes(1, 2)),
    "router in another order": reordered(1, "router"),
    "layers in another order": reordered(0, "kernel", "bias"),
    "biases in another order": reordered(0, "bias"),
    "directions exchanged": exchanged(*DIRECTIONS),
    "gates in another order": changed("kernel1", lambda k: np.roll(k, k.shape[1] // 3, 1)),
    "image transposed": changed("kernel", lambda k: k.swapaxes(0, 1)),
    "norm of the other axis": changed("v", np.transpose),
    "gains in another order": reordered(0, "g"),
    "gain and shift exchanged": exchanged("gain", "shift"),
}


def block(api: Any, config: Config, width: int, rng: np.random.Generator) -> Any:
    kind = KINDS[config["kind"]]
    w = {name: 0.5 * rng.normal(size=shape) for name, shape in kind.shapes(config, width).items()}
    if "mistake" in config:
        MISTAKES[config["mistake"]](w)
    return made(api, kind, api.Layer, w, config)


def made(api: Any, kind: type, base: type, w: dict[str, Array], config: Config) -> Any:
    """A layer of this kind. What it is made of is its class's, since Keras keeps what constructors are given."""
    computed = {**config, **config.get("computed", {})}
    layer = type(kind.__name__, (kind, base), {"api": api, "w": w, "config": config, "computed": computed})()
    layer.arrange()
    return layer


def model_of(api: Any, config: Config, ids: Array) -> Any:
    api.begin(config)
    return api.given(made(api, Model, api.Model, {}, config), ids)

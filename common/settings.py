"""The settings of a model, of its training and of its data.
The defaults are those of the Keras example.

A setting's default, meaning and bounds stand here alone: `require` refuses what is out of bounds,
and the commands' options are made of them (backends/commands/__init__.py).
"""

from ctypes import c_float
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from common.errors import BadSettingError

LARGEST_INTEGER = 2**63 - 1  # of whole numbers
# Of a layer; weights and slots then take 1.1 GB in float32, the transformer's 6 GB.
MOST_UNITS = 1 << 12
# Characters; Chinese texts have some 4,000, and one-hot rows are cut from V x V numbers.
LARGEST_VOCABULARY = 1 << 13
LARGEST_TEXT = 1 << 28  # bytes of a corpus, also out of an archive or a pipe; and of a run's pairs
# Of a corpus, bad lines counted; the largest of manythings.org has some 540,000.
MOST_PAIRS = 1 << 20
MOST_POSITIONS = 1 << 16  # more than the longest sentence has
LARGEST_FLOAT32 = 3.4028234663852886e38

ModelName = Literal["lstm", "attention", "transformer"]  # see common.models
Precision = Literal["float32", "float64"]
Padding = Literal["space", "mask"]
Order = Literal["shuffled", "bucketed"]
Split = Literal["tail", "grouped"]


def as_float32(value: float) -> float:
    """The nearest float32, as a Python float."""
    # Without NumPy, whose import would be a quarter of the time that --help takes.
    return c_float(value).value


def setting(default: Any, meaning: str, *bounds: float) -> Any:
    """A dataclass field with its default, its meaning,
    and the least and the largest number that it may have."""
    return field(default=default, metadata={"meaning": meaning, "bounds": bounds})


def require(values: Any, **bounds: tuple[float, float]) -> None:
    """Raise BadSettingError unless each setting is one of its type's words,
    or lies within its bounds."""
    for name, each in getattr(values, "__dataclass_fields__", {}).items():
        if (words := get_args(each.type)) and (value := getattr(values, name)) not in words:
            raise BadSettingError(f"{name} is {value!r}, expected {' or '.join(words)}")
        if each.metadata.get("bounds"):
            bounds[name] = each.metadata["bounds"]
    for name, (least, most) in bounds.items():
        if not least <= (value := getattr(values, name)) <= most:  # a NaN does not fit
            raise BadSettingError(f"{name} is {value!r}, expected {least} to {most}")


@dataclass(frozen=True)
class ModelConfig:
    """The encoder-decoder and its shape."""

    num_encoder_tokens: int  # V_enc, characters of the source vocabulary
    num_decoder_tokens: int  # V_dec, characters of the target vocabulary
    start_token: int  # decoder id of "\t", which starts every target
    stop_token: int  # decoder id of "\n", which ends it
    latent_dim: int = setting(256, "Number of units of a layer.", 1, MOST_UNITS)  # H
    dtype: Precision = setting("float32", "Precision of the weights and the arithmetic.")
    # "space": the encoder reads the padding and the loss counts it.
    # "mask": padded target positions have weight zero, and the encoder's states are those at each
    # sentence's end.
    padding: Padding = setting(
        "space",
        "Let padding count, as the example does, or leave it out of the states and the loss.",
    )
    model: ModelName = setting(
        "lstm",
        "The official example's model, the same with attention to the encoder, or a Transformer.",
    )
    # The largest number of time steps on either side,
    # for models that learn positions; of the corpus.
    max_length: int = setting(64, "Number of positions.", 1, MOST_POSITIONS)

    def __post_init__(self) -> None:
        tokens, sizes = (0, self.num_decoder_tokens - 1), (1, LARGEST_VOCABULARY)
        require(
            self,
            num_encoder_tokens=sizes,
            num_decoder_tokens=sizes,
            start_token=tokens,
            stop_token=tokens,
        )


@dataclass(frozen=True)
class TrainConfig:
    """Settings of the training. The optimizer is RMSprop: no momentum,
    not centered, epsilon inside the root.

    Its constants are rounded to float32 once, here, since frameworks keep them in different
    precisions: Paddle keeps rho and epsilon in single precision, and torch keeps all in double
    precision.
    """

    batch_size: int = setting(64, "Number of pairs in each training step.", 1, LARGEST_INTEGER)
    learning_rate: float = setting(
        1e-3, "Learning rate of RMSprop; rounded to float32.", 0, LARGEST_FLOAT32
    )
    rho: float = setting(0.9, "Decay of the mean square.", 0, 1)
    epsilon: float = setting(1e-7, "Number added inside the root.", 0, LARGEST_FLOAT32)
    seed: int = setting(
        0, "Seed of the first weights, the batches' order and a grouped split.", 0, LARGEST_INTEGER
    )
    batches: Order = setting(
        "shuffled",
        "Make each batch of any pairs, or of pairs of similar lengths and only as long as they "
        "need; the latter needs --padding mask.",
    )

    def __post_init__(self) -> None:
        for name in ("learning_rate", "rho", "epsilon"):
            object.__setattr__(self, name, as_float32(getattr(self, name)))
        require(self)


@dataclass(frozen=True)
class DataConfig:
    """The sentence pairs that are used, and their split."""

    data: str = setting(
        "phrasebook",
        '"phrasebook", a pair of manythings.org such as "fra-eng", or a path to a '
        "text file or zip.",
    )
    num_samples: int = setting(
        10_000, "Number of pairs to use, from the corpus's beginning.", 1, LARGEST_INTEGER
    )
    validation_split: float = setting(
        0.2, "Share of the pairs (or sources) that is held out for validation.", 0, 1
    )
    split: Split = setting(
        "tail",
        "Hold out the last pairs, as the example does, or all pairs of sources chosen at random.",
    )
    skip_bad_lines: bool = setting(
        False, "Skip lines that hold no pair, and say how many and which."
    )

    def __post_init__(self) -> None:
        require(self)

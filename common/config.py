"""The settings of a model, of its training and of its data. The defaults are those of the Keras example."""

from ctypes import c_float
from dataclasses import dataclass
from typing import Any

from common.errors import BadSettingError

LARGEST = 2**63 - 1  # of whole numbers
MOST_UNITS = 1 << 12  # of an LSTM; weights and slots then take 1.1 GB in float32
LARGEST_VOCABULARY = 1 << 13  # characters; Chinese texts have some 4,000, and one-hot rows are cut from V x V numbers
LARGEST_TEXT = 1 << 30  # bytes of a corpus, also of one that comes out of an archive or of a pipe, or is in a run
MOST_PAIRS = 1 << 23  # of a corpus; the largest of manythings.org has some 540,000
LARGEST_FLOAT32 = 3.4028234663852886e38


def as_float32(value: float) -> float:
    """The nearest float32, as a Python float.

    Frameworks keep optimizer constants in different precisions: Paddle keeps rho and epsilon in single precision, and
    torch keeps all in double precision. Rounding them once, here, gives every framework the same numbers.
    """
    return c_float(value).value  # without NumPy, whose import would be a quarter of the time that --help takes


LEARNING_RATE = 1e-3  # as a person writes it


def require(values: Any, **allowed: tuple[float, float] | list[str]) -> None:
    """Raise BadSettingError unless each field of a dataclass lies between two numbers or is one of some words."""
    for name, expected in allowed.items():
        value = getattr(values, name)
        if isinstance(expected, list):
            fits, words = value in expected, " or ".join(expected)
        else:
            least, most = expected
            fits, words = least <= value <= most, f"{least} to {most}"  # a NaN does not fit
        if not fits:
            raise BadSettingError(f"{name} is {value!r}, expected {words}")


@dataclass(frozen=True)
class ModelConfig:
    """The shape of the encoder-decoder."""

    num_encoder_tokens: int  # V_enc, characters of the source vocabulary
    num_decoder_tokens: int  # V_dec, characters of the target vocabulary
    start_token: int  # decoder id of "\t", which starts every target
    stop_token: int  # decoder id of "\n", which ends it
    latent_dim: int = 256  # H
    dtype: str = "float32"  # or "float64": the precision of weights, tensors and arithmetic
    # "space": the encoder reads the padding and the loss counts it, as in the example.
    # "mask": padded target positions have weight zero, and the encoder's states are those at each sentence's end.
    padding: str = "space"

    def __post_init__(self) -> None:
        tokens = (0, self.num_decoder_tokens - 1)
        sizes = dict.fromkeys(["num_encoder_tokens", "num_decoder_tokens"], (1, LARGEST_VOCABULARY))
        require(self, **sizes, start_token=tokens, stop_token=tokens, latent_dim=(1, MOST_UNITS))
        require(self, dtype=["float32", "float64"], padding=["space", "mask"])


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained. The optimizer is RMSprop: no momentum, not centered, epsilon inside the root."""

    batch_size: int = 64
    learning_rate: float = as_float32(LEARNING_RATE)
    rho: float = as_float32(0.9)  # decay of the mean square
    epsilon: float = as_float32(1e-7)
    seed: int = 0  # for the initial weights, the order of batches and a grouped split
    # "shuffled": a batch holds rows of any lengths, padded to the longest of the corpus, as in the example.
    # "bucketed": a batch holds rows of about the same lengths and is trimmed to them; this needs padding "mask".
    batches: str = "shuffled"

    def __post_init__(self) -> None:
        require(self, batch_size=(1, LARGEST), seed=(0, LARGEST), batches=["shuffled", "bucketed"])
        require(self, learning_rate=(0, LARGEST_FLOAT32), rho=(0, 1), epsilon=(0, LARGEST_FLOAT32))


@dataclass(frozen=True)
class DataConfig:
    """Which sentence pairs are used and how they are split."""

    data: str = "phrasebook"  # "phrasebook", a pair of manythings.org such as "fra-eng", or a path
    num_samples: int = 10_000  # the number of pairs that are used, from the beginning of the corpus
    validation_split: float = 0.2  # the share of pairs, or of sources, that is held out
    split: str = "tail"  # "tail": the last rows, as in the example; "grouped": whole sources at random
    skip_bad_lines: bool = False  # leave out lines that hold no pair; otherwise such a line is an error

    def __post_init__(self) -> None:
        require(self, num_samples=(1, LARGEST), validation_split=(0, 1), split=["tail", "grouped"])

"""The settings of a model, its training and its data: values only, with the Keras example's defaults."""

from ctypes import c_float
from dataclasses import dataclass


def as_float32(value: float) -> float:
    """The nearest float32, as a Python float.

    Frameworks keep optimizer constants in different precisions (Paddle rho and epsilon as C float, torch all as
    double). Rounding once, here, gives all of them the same number in every precision.
    """
    return c_float(value).value  # NumPy would take a quarter of the time in which --help answers


LEARNING_RATE = 1e-3  # as a person writes it


@dataclass(frozen=True)
class ModelConfig:
    """The shape of the encoder-decoder."""

    num_encoder_tokens: int  # V_enc, characters of the source vocabulary
    num_decoder_tokens: int  # V_dec, characters of the target vocabulary
    start_token: int  # decoder id of "\t", which starts every target
    stop_token: int  # decoder id of "\n", which ends it
    latent_dim: int = 256  # H
    dtype: str = "float32"  # or "float64"; of weights, tensors and arithmetic
    # "space": padding counts, as in the example. "mask": padded target positions weigh nothing, and the encoder's
    # states are those at each sentence's true end.
    padding: str = "space"


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained. The optimizer is RMSprop: no momentum, not centered, epsilon inside the root."""

    batch_size: int = 64
    learning_rate: float = as_float32(LEARNING_RATE)
    rho: float = as_float32(0.9)  # decay of the mean square
    epsilon: float = as_float32(1e-7)
    seed: int = 0  # of the initial weights, the batch order and a grouped split
    # "shuffled": any rows, all as wide as the corpus, as in the example. "bucketed": rows of about the same lengths,
    # trimmed to them; needs padding that is masked.
    batches: str = "shuffled"


@dataclass(frozen=True)
class DataConfig:
    """Which sentence pairs are used and how they are split."""

    data: str = "phrasebook"  # "phrasebook", a pair of manythings.org such as "fra-eng", or a path
    num_samples: int = 10_000  # the first lines of the corpus
    validation_split: float = 0.2
    split: str = "tail"  # "tail": the last rows, as in the example; "grouped": whole sources at random
    skip_bad_lines: bool = False

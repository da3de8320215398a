"""The LSTM tagger in Flax NNX, ported from Keras: `python SCRIPT RECORD [OPTIMIZER]` records it."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from safetensors.numpy import load_file
from shared import BETA_2, DECAY, EPSILON, FAST, MOMENTUM, RATE, RHO, TAGS, WORDS, batches

from rosetta_record import Record

CARRIED = Path("tagger_flax.safetensors")  # the weights of the Keras side


def as_keras(optimizer: object, **settings: float) -> object:
    """Adam with epsilon where Keras has it: added to the root before its bias is corrected."""
    return optax.inject_hyperparams(optimizer)(
        learning_rate=RATE,
        b1=MOMENTUM,
        b2=BETA_2,
        eps=lambda steps: EPSILON / jnp.sqrt(1 - BETA_2 ** (steps + 1.0)),
        **settings,
    )


OPTIMIZERS = {
    "sgd": lambda weights: optax.sgd(FAST, MOMENTUM),
    "adam": lambda weights: as_keras(optax.adam),
    "adamw": lambda weights: as_keras(optax.adamw, weight_decay=DECAY),
    "rmsprop": lambda weights: optax.rmsprop(RATE, RHO, EPSILON),
}


class Tagger(nnx.Module):
    def __init__(self, **own: object) -> None:
        self.embedding = nnx.Embed(WORDS, 8, **own)
        self.lower, self.upper = (
            nnx.Bidirectional(*(nnx.RNN(nnx.OptimizedLSTMCell(width, 8, **own)) for _ in range(2)))
            for width in (8, 16)
        )
        self.tags = nnx.Linear(16, TAGS, **own)

    def __call__(self, ids: jax.Array) -> jax.Array:
        return self.tags(self.upper(self.lower(self.embedding(ids))))


def loss_of(model: Tagger, batch: dict) -> tuple:
    logits = model(jnp.asarray(batch["ids"]))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(batch["tags"]))
    return losses.mean(where=batch["ids"] != 0), {"logits": logits}


if __name__ == "__main__":
    folder, optimizer = [*sys.argv[1:], "adam"][:2]
    jax.config.update("jax_enable_x64", True)
    model = Tagger(param_dtype=jnp.float64, rngs=nnx.Rngs(1))
    arrays = load_file(CARRIED) if CARRIED.exists() else {}
    for path, weight in nnx.iter_graph(model):
        if ".".join(map(str, path)) in arrays:
            weight.set_value(jnp.asarray(arrays[".".join(map(str, path))]))
    Record(folder).training(model, batches(), loss_of, OPTIMIZERS[optimizer])

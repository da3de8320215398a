"""The GRU encoder and decoder with attention in Flax NNX, ported from torch:
`python SCRIPT RECORD [OPTIMIZER]`."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from safetensors.numpy import load_file
from shared import BETA_2, DECAY, EPSILON, FAST, MOMENTUM, RATE, RHO, TAGS, WORDS, batches

from rosetta_record import Record

CARRIED = Path("translator_flax.safetensors")  # the weights of the torch side
OPTIMIZERS = {
    "sgd": lambda weights: optax.sgd(FAST, MOMENTUM),
    "adam": lambda weights: optax.chain(
        optax.add_decayed_weights(DECAY), optax.adam(RATE, MOMENTUM, BETA_2, EPSILON)
    ),
    "adamw": lambda weights: optax.adamw(RATE, MOMENTUM, BETA_2, EPSILON, weight_decay=DECAY),
    "rmsprop": lambda weights: optax.rmsprop(RATE, RHO, EPSILON, eps_in_sqrt=False),
}


class GRUCell(nnx.GRUCell):
    """A cell with torch's second bias, which its reset gate scales."""

    def __init__(self, width: int, units: int, **own: object) -> None:
        super().__init__(width, units, **own)
        self.dense_h = nnx.Linear(units, 3 * units, **own)


class Translator(nnx.Module):
    def __init__(self, **own: object) -> None:
        self.words = nnx.Embed(WORDS, 8, **own)
        self.encoder = nnx.RNN(GRUCell(8, 12, **own))
        self.tags = nnx.Embed(TAGS, 8, **own)
        self.decoder = nnx.RNN(GRUCell(8, 12, **own))
        self.attention = nnx.Linear(12, 12, use_bias=False, **own)
        self.both = nnx.Linear(24, 12, **own)
        self.logits = nnx.Linear(12, TAGS, **own)

    def __call__(self, ids: jax.Array, tags: jax.Array) -> jax.Array:  # (batch, time) both
        # So that padding's row is not trained.
        words = jnp.where((ids != 0)[..., None], self.words(ids), 0)
        state, source = self.encoder(words, return_carry=True)
        target = self.decoder(self.tags(tags), initial_carry=state)
        scores = self.attention(target) @ source.swapaxes(1, 2)  # (batch, target time, source time)
        scores = jnp.where((ids == 0)[:, None], -jnp.inf, scores)
        context = jax.nn.softmax(scores) @ source
        return self.logits(jnp.tanh(self.both(jnp.concatenate([context, target], -1))))


def loss_of(model: Translator, batch: dict) -> tuple:
    ids, tags, before = (jnp.asarray(batch[name]) for name in ("ids", "tags", "before"))
    logits = model(ids, before)
    return optax.softmax_cross_entropy_with_integer_labels(logits, tags).mean(), {"logits": logits}


if __name__ == "__main__":
    folder, optimizer = [*sys.argv[1:], "adam"][:2]
    jax.config.update("jax_enable_x64", True)
    model = Translator(param_dtype=jnp.float64, rngs=nnx.Rngs(1))
    arrays = load_file(CARRIED) if CARRIED.exists() else {}
    for path, weight in nnx.iter_graph(model):
        if ".".join(map(str, path)) in arrays:
            weight.set_value(jnp.asarray(arrays[".".join(map(str, path))]))
    Record(folder).training(model, batches(), loss_of, OPTIMIZERS[optimizer])

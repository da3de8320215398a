"""The Transformer encoder in Flax NNX, ported from torch:
`python SCRIPT RECORD [OPTIMIZER]` records it."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from safetensors.numpy import load_file
from shared import BETA_2, DECAY, EPSILON, FAST, LONGEST, MOMENTUM, RATE, RHO, TAGS, WORDS, batches

from rosetta_record import Record

CARRIED = Path("encoder_flax.safetensors")  # the weights of the torch side
OPTIMIZERS = {
    "sgd": lambda weights: optax.sgd(FAST, MOMENTUM),
    "adam": lambda weights: optax.adam(RATE, MOMENTUM, BETA_2, EPSILON),
    "adamw": lambda weights: optax.adamw(RATE, MOMENTUM, BETA_2, EPSILON, weight_decay=DECAY),
    "rmsprop": lambda weights: optax.rmsprop(RATE, RHO, EPSILON, eps_in_sqrt=False),
}


def exact_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array, **others: object
) -> jax.Array:
    """Attention with its softmax in the precision of the arguments;
    in float64 JAX's own has it in float32."""
    scores = jnp.einsum("nthd,nshd->nhts", q, k) / q.shape[-1] ** 0.5
    return jnp.einsum("nhts,nshd->nthd", jax.nn.softmax(jnp.where(mask, scores, -jnp.inf)), v)


class Block(nnx.Module):
    def __init__(self, **own: object) -> None:
        self.attention = nnx.MultiHeadAttention(
            2, 8, attention_fn=exact_attention, decode=False, **own
        )
        self.norm1 = nnx.LayerNorm(8, epsilon=1e-5, **own)
        self.wide = nnx.Linear(8, 16, **own)
        self.narrow = nnx.Linear(16, 8, **own)
        self.norm2 = nnx.LayerNorm(8, epsilon=1e-5, **own)

    def __call__(self, x: jax.Array, real: jax.Array) -> jax.Array:
        x = self.norm1(x + self.attention(x, mask=real[:, None, None]))
        return self.norm2(x + self.narrow(nnx.gelu(self.wide(x), approximate=False)))


class Encoder(nnx.Module):
    def __init__(self, **own: object) -> None:
        self.words = nnx.Embed(WORDS, 8, **own)
        self.positions = nnx.Embed(LONGEST, 8, **own)
        self.blocks = nnx.List([Block(**own), Block(**own)])
        self.tags = nnx.Linear(8, TAGS, **own)

    def __call__(self, ids: jax.Array) -> jax.Array:
        x = self.words(ids) + self.positions(jnp.arange(LONGEST))
        for block in self.blocks:
            x = block(x, ids != 0)
        return self.tags(x)


def loss_of(model: Encoder, batch: dict) -> tuple:
    logits = model(jnp.asarray(batch["ids"]))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(batch["tags"]))
    return losses.mean(where=batch["ids"] != 0), {"logits": logits}


if __name__ == "__main__":
    folder, optimizer = [*sys.argv[1:], "adam"][:2]
    jax.config.update("jax_enable_x64", True)
    model = Encoder(param_dtype=jnp.float64, rngs=nnx.Rngs(1))
    arrays = load_file(CARRIED) if CARRIED.exists() else {}
    for path, weight in nnx.iter_graph(model):
        if ".".join(map(str, path)) in arrays:
            weight.set_value(jnp.asarray(arrays[".".join(map(str, path))]))
    Record(folder).training(model, batches(), loss_of, OPTIMIZERS[optimizer])

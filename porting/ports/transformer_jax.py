"""The same Transformer in JAX without modules: `python SCRIPT RECORD MODULES` records it, with the
weights of the record of modules."""

import sys

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from safetensors.numpy import load_file
from shared import FAST, MOMENTUM, batches

from rosetta_record import Record, tap

HEADS, SIZE = 2, 4


def linear(w: dict, x: jax.Array) -> jax.Array:
    return x @ w["kernel"] + w["bias"]


def transformer(w: dict, ids: jax.Array) -> jax.Array:  # (batch, time)
    x = w["words"][ids]
    q, k, v = (
        linear(w[name], x).reshape(*ids.shape, HEADS, SIZE) for name in ("query", "key", "value")
    )
    scores = tap("scores", jnp.einsum("nthd,nshd->nhts", q, k) / SIZE**0.5)
    scores = tap("masked scores", jnp.where(ids[:, None, None] != 0, scores, -jnp.inf))
    context = tap("context", jnp.einsum("nhts,nshd->nthd", jax.nn.softmax(scores), v))
    x = x + linear(w["out"], context.reshape(x.shape))
    wide = tap("activated", jax.nn.gelu(linear(w["wide"], x), approximate=False))
    return linear(w["tags"], x + linear(w["narrow"], wide))


def loss_of(model: nnx.Dict, batch: dict) -> tuple:
    w = nnx.to_pure_dict(nnx.state(model))
    logits = transformer(w, jnp.asarray(batch["ids"]))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(batch["tags"]))
    return losses.mean(where=batch["ids"] != 0), {"logits": logits}


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    weights: dict = {}
    for name, array in load_file(f"{sys.argv[2]}/weights.safetensors").items():
        layer, _, role = name.rpartition(".")
        if layer == "words":
            weights[layer] = nnx.Param(jnp.asarray(array))
        else:
            own = weights.setdefault(layer, {})
            own["kernel" if role == "weight" else role] = nnx.Param(jnp.asarray(array.T))
    model = nnx.Dict(
        {name: nnx.Dict(own) if isinstance(own, dict) else own for name, own in weights.items()}
    )
    Record(sys.argv[1]).training(
        model, batches(), loss_of, lambda weights: optax.sgd(FAST, MOMENTUM)
    )

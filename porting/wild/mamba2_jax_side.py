"""mamba2-jax's side of a pair, in Flax NNX. The model computes in float32,
whatever its weights are."""

import jax.numpy as jnp
import optax
import safetensors.numpy
from flax import nnx
from mamba2_jax import Mamba2Config, Mamba2ForCausalLM

from wild.job import MOMENTUM, RATE, SEED, STEPS, SavedAs, job, texts


def loss_of(model, batch):
    """Return the loss of the next word, and the outputs."""
    logits = model(jnp.asarray(batch["ids"]))["logits"]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits[:, :-1], batch["ids"][:, 1:])
    return losses.mean(), {"logits": logits}


def main() -> None:
    task = job()
    sizes = {"state_size": 8, "head_dim": 16, "chunk_size": 4, "num_hidden_layers": 2}
    config = Mamba2Config(
        SavedAs.words, hidden_size=SavedAs.width, tie_word_embeddings=False, **sizes
    )
    model = Mamba2ForCausalLM(config, rngs=nnx.Rngs(SEED + 1))
    if task.weights:
        arrays = safetensors.numpy.load_file(task.weights)
        for path, weight in nnx.iter_graph(model):
            if ".".join(map(str, path)) in arrays:
                weight.set_value(jnp.asarray(arrays[".".join(map(str, path))]))
    record = task.record()
    record.training(
        model, texts(task.model), loss_of, lambda weights: optax.sgd(RATE, MOMENTUM), STEPS
    )


if __name__ == "__main__":
    main()

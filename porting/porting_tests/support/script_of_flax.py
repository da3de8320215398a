"""Records a training of a small model of Flax in the folder that is named, by Record.training and
call by call, and writes there what Flax itself has of it."""

import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from safetensors.numpy import save_file

from rosetta_record import Record, tap

FOLDER = Path(sys.argv[1])
IDS = jnp.asarray([[1, 2, 0], [3, 3, 4]])


class Model(nnx.Module):
    """With a tied weight, a list, statistics, random numbers, and a cell within a layer that is not
    called, since its loop takes long to compile."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        zeros = nnx.initializers.zeros  # what draws weights takes long to compile
        own = {"param_dtype": jnp.float64, "rngs": rngs, "kernel_init": zeros}
        self.words = nnx.Embed(5, 4, embedding_init=zeros, param_dtype=jnp.float64, rngs=rngs)
        self.again = self.words.embedding
        self.blocks = nnx.List([nnx.Linear(4, 4, **own), nnx.Dropout(0.5, rngs=rngs)])
        self.norm = nnx.BatchNorm(4, momentum=0.75, param_dtype=jnp.float64, rngs=rngs)
        self.rnn = nnx.RNN(nnx.GRUCell(4, 3, recurrent_kernel_init=zeros, **own))

    def __call__(self, ids):
        x = self.norm(tap("words", self.words(ids)) + self.again[0])
        for block in self.blocks:
            x = block(x)
        return x


def loss_of(model, ids):
    outputs = model(ids)
    return (outputs**2).mean(), {"outputs": outputs}


def arrays(state) -> dict[str, np.ndarray]:
    """By the paths of Flax, but for random numbers'."""
    flat = nnx.to_flat_state(state)
    return {
        ".".join(map(str, path)): np.array(value[...]) for path, value in flat if "rngs" not in path
    }


model = Model(nnx.Rngs(0))
rng = np.random.default_rng(0)
for _, weight in nnx.to_flat_state(nnx.state(model, nnx.Param)):
    weight.set_value(jnp.asarray(rng.random(weight.shape)))
save_file(arrays(nnx.state(model)), FOLDER / "before.safetensors")
counts = [int(count[...]) for _, count in nnx.to_flat_state(nnx.state(model, nnx.RngCount))]
chain = optax.chain(optax.clip_by_global_norm(1e-3), optax.adamw(0.01, b1=0.875, weight_decay=0.1))
Record(FOLDER / "training").training(model, [IDS], loss_of, lambda weights: chain, steps=1)
save_file(arrays(nnx.state(model)), FOLDER / "after.safetensors")  # as before
assert counts == [int(count[...]) for _, count in nnx.to_flat_state(nnx.state(model, nnx.RngCount))]

record = Record(FOLDER / "calls")
record.model(model)
loss, _ = loss_of(model, IDS)
record.loss(loss)
gradients = nnx.jit(nnx.grad(lambda model: loss_of(model, IDS)[0]))(model)
record.gradients(model, gradients)
sgd = optax.sgd(0.5, momentum=0.25)
params = nnx.state(model, nnx.Param)
updates, state = sgd.update(gradients, sgd.init(params), params)
nnx.update(model, optax.apply_updates(params, updates))
record.optimizer((sgd, state))
record.step(1, loss)
save_file(arrays(gradients), FOLDER / "gradients.safetensors")
save_file(arrays(nnx.state(model)), FOLDER / "updated.safetensors")

weights = nnx.Dict(words=nnx.Param(model.words.embedding[...]))


def rows(weights, batch):  # a model without modules, and a dict whose keys are not sorted
    first, second = (weights.words[...][ids] for ids in batch.values())
    return (tap("rows", first) ** 2).mean() + second.mean()


batch = {"second": IDS, "first": IDS + IDS % 2}
Record(FOLDER / "functions").training(weights, [batch], rows, optax.sgd(0.5), steps=1)

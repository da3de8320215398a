"""Files of weights as users of JAX read them."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors.numpy import load_file

from backends.interface import Backend, Emit
from backends.jax_model import RMSprop, Seq2Seq


def opens(backend: Backend, emit: Emit, *, paths: list[str]) -> Mapping[str, Any]:
    """A weight and its slot as models of Flax NNX take them from our files,
    by the lines of porting/guide.md."""
    config = backend.config
    fresh = Seq2Seq(config.num_encoder_tokens, config.num_decoder_tokens, config.latent_dim)
    slots = RMSprop(fresh).opt_state[0].nu
    for target, path in zip((fresh, slots), paths, strict=True):
        arrays = load_file(path)
        weights = {
            ".".join(map(str, where)): weight
            for where, weight in nnx.to_flat_state(nnx.state(target))
        }
        assert {*arrays} <= {*weights}
        for name, array in arrays.items():
            weights[name].set_value(jnp.asarray(array))
        kernel = weights["encoder.cell.dense_i.kernel"].get_value()
        if target is fresh:
            weights_of_kernel = {"encoder/kernel": kernel}
    return {
        name: np.array(array)
        for name, array in {**weights_of_kernel, "slot encoder/kernel": kernel}.items()
    }

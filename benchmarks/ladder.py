"""The rungs of the parity ladder, as a backend climbs them in its own process; `parity` compares what they give."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common import decoding
from common.decoding import Emit
from common.interface import Backend
from common.tensors import Batch, Batches
from common.weights import ModelState, from_bytes, to_bytes

Block = NDArray[np.uint8]  # a state as safetensors, to be sent between processes

TENSORS = ("encoder_input_data", "decoder_input_data", "decoder_target_data", "target_weights")


def packed(state: ModelState) -> Block:
    """The state as one array of bytes."""
    return np.frombuffer(to_bytes(state, {}), np.uint8)


def unpacked(block: Block) -> ModelState:
    """The inverse of `packed`."""
    return from_bytes(block.tobytes())[0]


def hashes(batch: Batch) -> dict[str, str]:
    """The SHA-256 of each of the batch's tensors: of its dtype, shape and numbers."""
    found = {}
    for name in TENSORS:
        tensor = getattr(batch, name)
        found[name] = sha256(f"{tensor.dtype} {tensor.shape} ".encode() + tensor.tobytes()).hexdigest()
    return found


def tensors(backend: Backend, emit: Emit, **batch: Any) -> Mapping[str, Any]:
    """The hashes of the tensors that this process makes of the batch's ids."""
    return hashes(Batch(**batch))


def reload(backend: Backend, emit: Emit, *, state: Block) -> Mapping[str, Any]:
    """What comes out of the backend when `state` goes in."""
    backend.load(unpacked(state))
    return {"state": packed(backend.dump())}


def forward(backend: Backend, emit: Emit, *, state: Block, **batch: Any) -> Mapping[str, Any]:
    """The fields of `Forward` by name."""
    backend.load(unpacked(state))
    return vars(backend.forward(Batch(**batch)))


def gradients(backend: Backend, emit: Emit, *, state: Block, **batch: Any) -> Mapping[str, Any]:
    """The `loss`, and each weight's gradient by its name."""
    backend.load(unpacked(state))
    loss, by_name = backend.gradients(Batch(**batch))
    return {"loss": loss} | by_name


def steps(
    backend: Backend, emit: Emit, *, state: Block, order: NDArray[np.integer], batch_size: int, **corpus: Any
) -> Mapping[str, Any]:
    """Train on the rows of `order`: `losses` (steps,) and the `state` after them."""
    backend.load(unpacked(state))
    trained = backend.train(Batches(Batch(**corpus), order, batch_size), lambda step, loss: emit(step=step))
    return {"state": packed(backend.dump()), "losses": trained.step_losses}


def strings(backend: Backend, emit: Emit, *, state: Block, **arguments: Any) -> Mapping[str, Any]:
    """`ids` (N, max_length), decoded greedily; the arguments are those of `common.decoding.translate`."""
    backend.load(unpacked(state))
    return decoding.translate(backend, emit, **arguments)

"""The arrays that a backend computes for each stage, in its process.
Written once for all backends."""

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from backends.decoding import BeamSearch, log_softmax
from backends.interface import COUNTED, Backend, Emit, Metrics, unreported
from backends.process.translate_in_child import decode_greedily
from common.models import rectified_biases
from common.tensors import Array, Batch, Batches, Ids, max_decoded_length
from common.weights import SLOT_PREFIX, ModelState

STEPPED = "probabilities step by step"
CORNERS = "corners"  # of ReLU; asked of the reference alone
NEAR_CORNER = 0.05  # bounds the change of a bias, and so of what a case computes
DICTATED = 12  # characters that are decoded one by one
_received: WeakKeyDictionary[Backend, dict[int, Any]] = WeakKeyDictionary()  # see `compute_stage`
SEARCHED, BEAM = 2, 3  # sentences whose translations are searched for, and kept beginnings of each


def compute_stage(
    backend: Backend,
    emit: Emit,
    *,
    stage: str,
    new: dict[int, Any],
    weights: dict[str, int],
    slots: dict[str, int],
    corpus: int,
    rows: NDArray[np.integer],
    batch_size: int,
    trimmed: bool,
) -> dict[str, NDArray[Any]]:
    """Load a state and compute the arrays of a stage, by name,
    from the rows of the corpus in the order (rows,).

    `new` has arrays and corpora that this and later calls refer to by their numbers.
    The stages of training and counting cut the rows into batches; the last one may be smaller.
    """
    kept = _received.setdefault(backend, {})
    kept |= new
    # Copies, since a framework may train in the memory that it is given.
    arrays = (
        {name: kept[number].copy() for name, number in numbers.items()}
        for numbers in (weights, slots)
    )
    backend.load(ModelState(*arrays))
    pairs: Batch = kept[corpus]
    batches = Batches(pairs, rows, batch_size, trimmed)
    if stage == "tensors":
        return _model_file_tensors(backend, batches)
    if stage == "weights":
        return _by_name(backend.dump())
    if stage == "forward":
        return backend.forward(batches.whole()) | {STEPPED: _stepped(backend, batches.whole())}
    if stage == CORNERS:
        return _corners(backend, batches.whole())
    if stage == "gradients":
        loss, gradients = backend.gradients(batches.whole())
        return {"loss": np.array([loss]), **gradients}
    if stage == "counts":
        evaluated = backend.evaluate(batches)
        return _counted("evaluate", evaluated) | _counted(
            "train", backend.train(batches, unreported)
        )
    if stage == "strings":
        ids, lengths = (array[rows] for array in (pairs.encoder_ids, pairs.encoder_lengths))
        # As in the example, a text ends once it is longer than the longest target,
        # so one character more comes out.
        longest = max_decoded_length(pairs.decoder_input_ids.shape[1])
        # The last sentence is decoded alone,
        # since a backend may have another loop for a single sentence.
        parts = [part for part in np.split(np.arange(len(rows)), [-1]) if len(part)]
        decoded = [
            decode_greedily(
                backend,
                emit,
                encoder_ids=ids[part],
                encoder_lengths=lengths[part],
                max_length=longest,
            )
            for part in parts
        ]
        return {"ids": np.concatenate(decoded), "scores": _scores(backend, ids, lengths)}
    trained = backend.train(batches, lambda step, loss: emit(step=step))
    return {"losses": trained.step_losses, **_by_name(backend.dump())}


def _corners(backend: Backend, batch: Batch) -> dict[str, NDArray[Any]]:
    """The numbers (units,) to subtract from each bias before a ReLU, by its name.

    ReLU's corner then lies in the middle of the widest gap between a unit's numbers near it.
    """
    backend.forward(batch)
    middles = {}
    for name in rectified_biases(backend.config):
        layer = backend.model.layers[name.removesuffix("/bias")]
        numbers = np.pad(
            layer(layer.inputs).reshape(-1, len(layer.weights["bias"])), ((1, 1), (0, 0))
        )
        numbers[0], numbers[-1] = -NEAR_CORNER, NEAR_CORNER
        numbers = np.sort(numbers.clip(-NEAR_CORNER, NEAR_CORNER), axis=0)
        widest = np.diff(numbers, axis=0).argmax(0)
        middles[name] = np.take_along_axis(numbers[1:] + numbers[:-1], widest[None], 0)[0] / 2
    return middles


def _model_file_tensors(backend: Backend, batches: Batches) -> dict[str, NDArray[Any]]:
    """The tensors that the model file is given for each batch, by "FIELD of batch NUMBER"."""
    return {
        f"{field} of batch {number}": backend.file.to_array(tensor)
        for number, batch in enumerate(batches, 1)
        for field, tensor in backend._tensors(batch)._asdict().items()
        if tensor is not None
    }


class Dictated:
    """Stands for a beam search: has a backend decode given characters (N, L),
    and keeps what each step gives."""

    def __init__(self, characters: Ids) -> None:
        self.rows, self._characters = np.arange(len(characters)), characters
        self.logits: list[Array] = []  # (N, V_dec) of each step

    @property
    def ended(self) -> bool:
        return len(self.logits) >= int(self._characters.shape[1])

    @property
    def sampled(self) -> Ids:
        """(N,), the last character of each row."""
        return self._characters[:, len(self.logits)]

    def extend(self, logits: Array) -> None:
        self.logits.append(logits)


def _stepped(backend: Backend, batch: Batch) -> Array:
    """The probabilities (N, L, V_dec) of the first characters,
    decoded one by one from the encoder's states on."""
    dictated = Dictated(batch.decoder_input_ids[:, :DICTATED])
    backend.decode(batch.encoder_ids, batch.encoder_lengths, dictated)  # type: ignore[arg-type]
    return np.exp(log_softmax(np.stack(dictated.logits, axis=1)))


def _scores(backend: Backend, encoder_ids: Ids, encoder_lengths: Ids) -> Array:
    """The logarithms (N, BEAM) of the probabilities of the best beginnings
    of some sentences' translations."""
    sources = encoder_ids[:SEARCHED], encoder_lengths[:SEARCHED]
    search = BeamSearch(len(sources[0]), backend.config, DICTATED, BEAM)
    backend.decode(*sources, search)
    return search.scores


def _by_name(state: ModelState) -> dict[str, NDArray[Any]]:
    """The weights by their canonical names and the slots by "rmsprop/NAME"."""
    return state.weights | {SLOT_PREFIX + name: slot for name, slot in state.mean_squares.items()}


def _counted(how: str, metrics: Metrics) -> dict[str, NDArray[Any]]:
    """The counts of each batch (batches,), by "train NAME" or "evaluate NAME"."""
    return {f"{how} {name}": getattr(metrics, name) for name in COUNTED}

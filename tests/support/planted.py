"""Mistakes that can be planted in any framework:
tables of the methods and functions that each of them changes.

A change takes the backend, what it takes the place of, and the arguments of that.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib.util import module_from_spec
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

from backends import TABLE, Entry
from backends.decoding import BeamSearch, GreedySearch
from backends.interface import Backend, Emit, Metrics, OnStep, timed_steps, unreported
from common.settings import TrainConfig
from common.tensors import Array, Batch, Batches, Ids
from common.weights import Arrays, ModelState

Change = Callable[..., Any]
Changes = Mapping[str, Change]
DEFAULTS = TrainConfig()
HONEST_STEPS = 8  # of a backend that cheats later


def entry_of(planted: str) -> Entry:
    """The entry of a framework with a mistake, given as "FRAMEWORK:MISTAKE"."""
    framework, name = planted.split(":")
    return replace(TABLE[framework], driver=f"{__name__}:DRIVERS.{name}")


class Planted(Backend):
    """A backend with a mistake. It has a model file of its own,
    since others in the process keep theirs."""

    def __init__(self, name: str, file: Any, *rest: Any) -> None:
        if functions := FUNCTIONS.get(name):
            file = self._changed(file, functions)
        super().__init__(file, *rest)
        plant(self, METHODS.get(name, {}))

    def _changed(self, file: Any, functions: Changes) -> Any:
        again = module_from_spec(file.__spec__)
        file.__spec__.loader.exec_module(again)
        for name, change in functions.items():
            kind, _, method = name.rpartition(".")
            if kind:
                of_model = getattr(getattr(again, kind), method)
                setattr(getattr(again, kind), method, self._of_model(change, of_model))
            else:
                setattr(again, name, partial(change, self, getattr(again, name)))
        return again

    def _of_model(self, change: Change, method: Change) -> Change:
        return lambda model, *arguments: change(self, partial(method, model), *arguments)


def plant(backend: Backend, methods: Changes) -> None:
    """Change methods of a backend."""
    for name, change in methods.items():
        setattr(backend, name, partial(change, backend, getattr(backend, name)))


def plant_in_worker(backend: Backend, emit: Emit, *, mistake: str) -> None:
    """Have a worker make this mistake, and none that it made before; "" is none."""
    for name in ("train", "_tensors", "_train_step"):
        vars(backend).pop(name, None)
    plant(backend, OF_GROUPS.get(mistake, {}))


# States and gradients on their way in and out


def swapped(backend: Backend, load: Change, state: ModelState) -> None:
    load(ModelState(_swapped(state.weights), _swapped(state.mean_squares)))


def swapped_back(backend: Backend, dump: Change) -> ModelState:
    state = dump()
    return ModelState(_swapped(state.weights), _swapped(state.mean_squares))


def swapped_gradients(backend: Backend, gradients: Change, batch: Batch) -> tuple[float, Arrays]:
    loss, by_name = gradients(batch)
    return loss, _swapped(by_name)


def _swapped(arrays: Arrays) -> Arrays:
    """Forget gate and candidate in each other's place."""

    def swap(array: np.ndarray) -> np.ndarray:
        i, f, c, o = np.split(array, 4, axis=-1)
        return np.concatenate([i, c, f, o], axis=-1)

    return {
        name: array if name.startswith("dense/") else swap(array) for name, array in arrays.items()
    }


def transposed(backend: Backend, load: Change, state: ModelState) -> None:
    load(_transposed(state))


def transposed_back(backend: Backend, dump: Change) -> ModelState:
    return _transposed(dump())


def _transposed(state: ModelState) -> ModelState:
    """The recurrent kernel's first square transposed, as no shape shows."""
    kernel = state.weights["encoder/recurrent_kernel"].copy()
    kernel[:, : len(kernel)] = kernel[:, : len(kernel)].T.copy()
    return ModelState(state.weights | {"encoder/recurrent_kernel": kernel}, state.mean_squares)


def one_row_disturbed(backend: Backend, load: Change, state: ModelState) -> None:
    kernel = state.weights["decoder/recurrent_kernel"].copy()
    kernel[23] += 1e-6
    load(ModelState(state.weights | {"decoder/recurrent_kernel": kernel}, state.mean_squares))


def slots_forgotten(backend: Backend, load: Change, state: ModelState) -> None:
    load(ModelState(state.weights, {name: 0 * slot for name, slot in state.mean_squares.items()}))


def not_a_number(backend: Backend, forward: Change, batch: Batch) -> Arrays:
    """A comparison that drops NaNs on both sides would not see it."""
    computed = forward(batch)
    computed["state_c"][3, 7] = np.nan
    return computed


def later_steps_disturbed(backend: Backend, forward: Change, batch: Batch) -> Arrays:
    """By what float32 alone would not explain."""
    computed = forward(batch)
    computed["probabilities"][:, 5:] += 2e-7
    return computed


def wrong_gradient(backend: Backend, gradients: Change, batch: Batch) -> tuple[float, Arrays]:
    loss, by_name = gradients(batch)
    units = backend.config.latent_dim
    by_name["encoder/kernel"][:, units : 2 * units] *= 1 + 1e-2
    return loss, by_name


# Steps


def epsilon_outside(backend: Backend, train_step: Change, batch: Any) -> Any:
    """As torch's and optax's own RMSprop have it."""
    return _stepped(backend, batch, lambda slot: np.sqrt(slot) + backend.train_config.epsilon)


def weights_of_the_first_step(backend: Any, train_step: Change, batch: Any) -> Any:
    """A compiled step that finds the model outside of its arguments
    has its first weights as constants."""
    backend.first = vars(backend).get("first") or backend.dump()
    now = backend.dump()
    backend.load(ModelState(backend.first.weights, now.mean_squares))
    return _stepped(
        backend, batch, lambda slot: np.sqrt(slot + backend.train_config.epsilon), now.weights
    )


def _stepped(
    backend: Backend,
    batch: Any,
    root: Callable[[np.ndarray], np.ndarray],
    weights: Arrays | None = None,
) -> Any:
    """A step of RMSprop from the backend's weights,
    or by their gradients from others, with another `root`."""
    loss, counts, tensors = backend.file.gradients(backend.model, batch)
    gradients, state, settings = backend._arrays(tensors), backend.dump(), backend.train_config
    slots = _decayed(state.mean_squares, gradients, settings.rho)
    stepped = {
        name: (weight - settings.learning_rate * gradients[name] / root(slots[name])).astype(
            weight.dtype
        )
        for name, weight in (weights or state.weights).items()
    }
    backend.load(ModelState(stepped, slots))
    return loss, counts


def _decayed(slots: Arrays, gradients: Arrays, rho: float) -> Arrays:
    return {name: rho * slot + (1 - rho) * gradients[name] ** 2 for name, slot in slots.items()}


def biases_step_twice(backend: Backend, train_step: Change, batch: Any) -> Any:
    """As the sum of torch's two biases does where both are in the optimizer."""
    before = backend.dump().weights
    result = train_step(batch)
    state = backend.dump()
    twice = {
        name: 2 * state.weights[name] - before[name] for name in ("encoder/bias", "decoder/bias")
    }
    backend.load(ModelState(state.weights | twice, state.mean_squares))
    return result


def batches_shuffled(backend: Backend, train: Change, batches: Batches, report: OnStep) -> Metrics:
    rows = np.random.default_rng(1).permutation(batches.rows)
    return train(Batches(batches.corpus, rows, batches.batch_size), report)


def with_rates(**rates: float) -> Change:
    """An optimizer that has these constants, whatever is asked."""

    def made(backend: Backend, kind: Change, model: Any, *given: float) -> Any:
        return kind(
            model, **dict(zip(("learning_rate", "rho", "epsilon"), given, strict=True)) | rates
        )

    return made


# Counts


def weighed_as_a_whole(backend: Backend, evaluate: Change, batches: Batches) -> Metrics:
    """The sum of a batch's loss is its mean times the positions of the first batch,
    which has more."""
    counted = evaluate(batches)
    return replace(counted, loss_sums=counted.step_losses * counted.weight_sums[0])


def last_batch_left_out(backend: Backend, evaluate: Change, batches: Batches) -> Metrics:
    """Where it is smaller than the others, as loaders of data can."""
    return evaluate(batches.part(0, len(batches.rows) // batches.batch_size))


def counted_after_the_step(backend: Backend, train_step: Change, batch: Any) -> Any:
    loss, counts = train_step(batch)
    return loss, np.array([counts[0], *backend.file.evaluate_step(backend.model, batch)[1][1:]])


def stops_not_real(backend: Backend, loss_of: Change, logits: Any, batch: Any) -> Any:
    loss, counts = loss_of(logits, batch)
    stop = backend.config.stop_token
    right = (batch.decoder_target_ids == stop) & (logits.argmax(-1) == stop)
    return loss, counts - [0, 0, right.sum()]


def padding_counted(backend: Backend, loss_of: Change, logits: Any, batch: Any) -> Any:
    loss, counts = loss_of(logits, batch)
    right = (logits.argmax(-1) == batch.decoder_target_ids).sum()
    return loss, np.array([counts[0], right, counts[2]])


# Model files


def states_exchanged(backend: Backend, encode: Change, *arguments: Any) -> Any:
    state_h, state_c = encode(*arguments)
    return state_c, state_h


def bias_left_out(backend: Backend, decode: Change, *arguments: Any) -> Any:
    logits, *states = decode(*arguments)
    return logits - backend.model.dense.bias, *states


def encoder_not_taught(backend: Backend, encode: Change, *arguments: Any) -> Any:
    """Its gradients are zero, where torch by itself has none."""
    return tuple(state.detach() + 0 * state for state in encode(*arguments))


def start_scaled(backend: Backend, start: Change, *arguments: Any) -> Any:
    state_h, state_c = start(*arguments)
    return state_h, 0.999 * state_c


def targets_padded_with_zeros(backend: Backend, loss_of: Change, logits: Any, batch: Any) -> Any:
    targets = batch.decoder_target_data * batch.real_positions[..., None]
    return loss_of(logits, batch._replace(decoder_target_data=targets))


def divided_by_its_own_positions(backend: Backend, loss_of: Change, logits: Any, batch: Any) -> Any:
    """A batch of short sentences teaches as much as one of long sentences."""
    return loss_of(logits, batch._replace(loss_positions=batch.target_weights.sum()))


def loss_by_a_plain_sum(backend: Backend, loss_of: Change, logits: Any, batch: Any) -> Any:
    """XLA adds one number after another on a CPU, and rounds each time."""
    cross_entropy = backend.file.optax.softmax_cross_entropy(logits, batch.decoder_target_data)
    loss_sum = (batch.target_weights * cross_entropy).sum()
    return loss_sum / batch.loss_positions, loss_of(logits, batch)[1].at[0].set(loss_sum)


def far_logits_clipped(backend: Backend, loss_of: Change, logits: Any, batch: Any) -> Any:
    """As Paddle's softmax does."""
    return loss_of(logits.clip(logits.max() - 64), batch)


# Attention, in NumPy where nothing else is said


def attends(**changes: Change) -> Change:
    """Other queries, values or masks, each made of the right one."""

    def attention(
        backend: Backend, made: Change, queries: Array, values: Array, mask: Array
    ) -> None:
        given = {"queries": queries, "values": values, "mask": mask}
        made(**given | {name: change(given[name]) for name, change in changes.items()})

    return attention


def softmax_over_queries(
    backend: Backend, made: Change, queries: Array, values: Array, mask: Array
) -> None:
    made(queries, values, mask)
    (attention,) = made.args
    exponentials = np.exp(queries @ values.swapaxes(1, 2)) * mask[:, None]
    attention.weights = exponentials / exponentials.sum(1, keepdims=True).clip(1e-30)
    attention.contexts = attention.weights @ values


def context_first(backend: Backend, dense: Change, outputs: Array) -> Array:
    return dense(np.roll(outputs, outputs.shape[-1] // 2, axis=-1))


def keys_not_taught(backend: Backend, backward: Change, d_contexts: Array) -> tuple[Array, Array]:
    (attention,) = backward.args
    return backward(d_contexts)[0], attention.weights.swapaxes(1, 2) @ d_contexts


def queries_not_taught(
    backend: Backend, backward: Change, d_contexts: Array
) -> tuple[Array, Array]:
    d_queries, d_values = backward(d_contexts)
    return 0 * d_queries, d_values


def softmax_not_centred(
    backend: Backend, backward: Change, d_contexts: Array
) -> tuple[Array, Array]:
    """The derivative of an exponential in place of a softmax's."""
    (attention,) = backward.args
    d_scores = attention.weights * (d_contexts @ attention.values.swapaxes(1, 2))
    d_values = (
        attention.weights.swapaxes(1, 2) @ d_contexts + d_scores.swapaxes(1, 2) @ attention.queries
    )
    return d_scores @ attention.values, d_values


def outputs_one_off(backend: Backend, start: Change, *arguments: Any) -> Any:
    """What decoding attends to stands one time step later than its mask."""
    *states, encoder_outputs, mask = start(*arguments)
    return *states, np.roll(encoder_outputs, 1, axis=1), mask


def state_one_step_behind(
    backend: Backend, step: Change, model: Any, data: Any, *states: Any
) -> Any:
    logits, _, *later = step(model, data, *states)
    return logits, states[0], *later


def outputs_of_other_rows(backend: Backend, take: Change, state: Array, rows: Array) -> Array:
    return state[: len(rows)] if state.ndim == 3 and len(rows) <= len(state) else take(state, rows)


def mask_rolled(backend: Backend, decode: Change, data: Any, *states: Any) -> Any:
    """In torch."""
    return decode(data, *states[:-1], states[-1].roll(1, 1))


def outputs_detached(backend: Backend, encode: Change, *arguments: Any) -> Any:
    """In torch: the encoder learns by its last states alone."""
    *states, encoder_outputs, mask = encode(*arguments)
    return *states, encoder_outputs.detach(), mask


OF_ATTENTION: dict[str, Changes] = {
    "MaskOneOff": {
        "Attention.__init__": attends(mask=lambda mask: np.maximum(mask, np.roll(mask, 1, axis=1)))
    },
    "MaskForgotten": {"Attention.__init__": attends(mask=np.ones_like)},
    "ScaledByUnits": {
        "Attention.__init__": attends(queries=lambda queries: queries / queries.shape[-1] ** 0.5)
    },
    "AttendsBeforeTheStep": {
        "Attention.__init__": attends(queries=lambda queries: np.roll(queries, 1, axis=1))
    },
    "SoftmaxOverQueries": {"Attention.__init__": softmax_over_queries},
    "ContextFirst": {"Seq2Seq.dense": context_first},
    "KeysNotTaught": {"Attention.backward": keys_not_taught},
    "QueriesNotTaught": {"Attention.backward": queries_not_taught},
    "SoftmaxNotCentred": {"Attention.backward": softmax_not_centred},
    "OutputsOneOff": {"start": outputs_one_off},
    "StateOneStepBehind": {"step": state_one_step_behind},
    "OutputsOfOtherRows": {"take": outputs_of_other_rows},
    "MaskRolled": {"Seq2Seq.decode": mask_rolled},
    "OutputsDetached": {"Seq2Seq.encode": outputs_detached},
}


# The Transformer, in NumPy where nothing else is said


def heads_attend(change: Callable[..., dict[str, Array]]) -> Change:
    """Other keys or another mask, made of the right ones by a function of the layer."""

    def attend(
        backend: Backend, call: Change, inputs: Array, keys: Array, values: Array, mask: Array
    ) -> Array:
        given = {"keys": keys, "values": values, "mask": mask}
        return call(inputs, **given | change(call.args[0], **given))

    return attend


def sees_the_next(layer: Any, mask: Array, **others: Array) -> dict[str, Array]:
    """Characters that are to be predicted."""
    return {"mask": mask | np.roll(mask, 1, axis=-1)} if mask.shape[1] > 1 else {}


def sees_a_padding(layer: Any, mask: Array, **others: Array) -> dict[str, Array]:
    return {} if mask.shape[1] > 1 else {"mask": mask | np.roll(mask, 1, axis=-1)}


def unscaled(layer: Any, keys: Array, **others: Array) -> dict[str, Array]:
    return {"keys": keys * (keys.shape[-1] / layer.num_heads) ** 0.5}


def shares_over_queries(
    backend: Backend, call: Change, inputs: Array, keys: Array, values: Array, mask: Array
) -> Array:
    call(inputs, keys, values, mask)
    (layer,) = call.args
    scores = layer.queries @ layer.keys.swapaxes(2, 3) / layer.queries.shape[-1] ** 0.5
    exponentials = np.exp(scores) * mask[:, None]
    shares = exponentials / exponentials.sum(2, keepdims=True).clip(1e-30)
    return layer.norm(inputs + layer.projection(layer.join(shares @ layer.values)))


def heads_interleaved(backend: Backend, split: Change, tensor: Array) -> Array:
    (layer,) = split.args
    return tensor.reshape(*tensor.shape[:2], -1, layer.num_heads).transpose(0, 3, 1, 2)


def positions_one_off(
    backend: Backend, embed: Change, characters: Array, positions: Array
) -> Array:
    return embed(characters, np.roll(positions, 1, axis=-1))


def epsilon_of_torch(backend: Backend, normalize: Change, inputs: Array) -> Array:
    """1e-5, in place of Keras's 1e-3."""
    normalize(inputs)
    (norm,) = normalize.args
    deviation = np.sqrt(norm.deviation**2 - 1e-3 + 1e-5)
    return (
        norm.normalized * (norm.deviation / deviation) * norm.weights["gamma"]
        + norm.weights["beta"]
    )


def tied(backend: Backend, made: Change, *sizes: int) -> None:
    """Encoder and decoder have one table of positions."""
    made(*sizes)
    (model,) = made.args
    model.decoder.positions = model.layers["decoder/positions"] = model.encoder.positions


def position_stays(backend: Backend, step: Change, model: Any, data: Any, *states: Any) -> Any:
    *later, _ = step(model, data, *states)
    return *later, states[-1]


def cache_one_off(backend: Backend, step: Change, model: Any, data: Any, *states: Any) -> Any:
    """Keys stand one position later than values."""
    *others, keys, values, position = step(model, data, *states)
    return *others, np.roll(keys, 1, axis=1), values, position


def cache_forgotten(backend: Backend, step: Change, model: Any, data: Any, *states: Any) -> Any:
    *others, _, _, position = step(model, data, *states)
    return *others, *states[3:5], position


def relu_not_derived(backend: Backend, backward: Change, d_outputs: Array) -> Array:
    (layer,) = backward.args
    d_sums = layer.norm.backward(d_outputs)
    return d_sums + layer.hidden.backward(layer.projection.backward(d_sums))


def new_keys_not_taught(
    backend: Backend, backward: Change, d_keys: Array, d_values: Array
) -> Array:
    return backward(0 * d_keys, d_values)


def memory_detached(backend: Backend, encode: Change, *arguments: Any) -> Any:
    """In torch: the encoder learns nothing."""
    keys, values, *others = encode(*arguments)
    return keys.detach() + 0 * keys, values.detach() + 0 * values, *others


OF_TRANSFORMER: dict[str, Changes] = {
    "SeesTheNext": {"Attention.__call__": heads_attend(sees_the_next)},
    "SeesAPadding": {"Attention.__call__": heads_attend(sees_a_padding)},
    "Unscaled": {"Attention.__call__": heads_attend(unscaled)},
    "SharesOverQueries": {"Attention.__call__": shares_over_queries},
    "HeadsInterleaved": {"Attention.split": heads_interleaved},
    "PositionsOneOff": {"Embedding.__call__": positions_one_off},
    "EpsilonOfTorch": {"Norm.__call__": epsilon_of_torch},
    "Tied": {"Seq2Seq.__init__": tied},
    "PositionStays": {"step": position_stays},
    "CacheOneOff": {"step": cache_one_off},
    "CacheForgotten": {"step": cache_forgotten},
    "ReluNotDerived": {"FeedForward.backward": relu_not_derived},
    "NewKeysNotTaught": {"Attention.keys_and_values_backward": new_keys_not_taught},
    "MemoryDetached": {"Seq2Seq.encode": memory_detached},
    "CachesOfOtherRows": {"take": outputs_of_other_rows},
}


# Tensors on their way in


def fed(**changes: Callable[[Any], Any]) -> Changes:
    """Other tensors in these fields of the model file's Batch, which each change is given."""

    def tensors(backend: Backend, honest: Change, batch: Batch) -> Any:
        given = honest(batch)
        return given._replace(**{field: change(given) for field, change in changes.items()})

    return {"_tensors": tensors}


def weights_of_the_batch_before(backend: Any, tensors: Change, batch: Batch) -> Any:
    """A buffer that is filled only when its shape changes."""
    given = tensors(batch)
    kept = (
        vars(backend)
        .setdefault("kept", {})
        .setdefault(given.target_weights.shape, given.target_weights)
    )
    return given._replace(target_weights=kept)


def of_the_batch_before(backend: Any, tensors: Change, batch: Batch) -> Any:
    """A loader that gives the first batch twice and is one behind from then on."""
    given = tensors(batch)
    before, backend.before = vars(backend).get("before", given), given
    return before


# Seen at the stage "tensors", the latter where padding is masked alone.
FED: dict[str, Changes] = {
    "TeacherForcingOffByOne": fed(decoder_input_data=lambda given: given.decoder_target_data),
    "InputsOneStepOff": fed(
        decoder_input_data=lambda given: np.roll(given.decoder_input_data, 1, axis=1)
    ),
    "TargetIdsOfInputs": fed(decoder_target_ids=lambda given: given.decoder_input_data.argmax(-1)),
    "SourcesReversed": fed(encoder_input_data=lambda given: given.encoder_input_data[:, ::-1]),
    "BatchTransposed": fed(
        encoder_input_data=lambda given: given.encoder_input_data.swapaxes(0, 1)
    ),
    "RowsMixedUp": fed(decoder_target_data=lambda given: given.decoder_target_data[::-1]),
    "PaddingIsReal": fed(real_positions=lambda given: np.ones_like(given.real_positions)),
    "LossOfASum": fed(loss_positions=lambda given: np.ones_like(given.loss_positions)),
    "Float64InFloat32": {
        "to_tensor": lambda backend, to_tensor, array: to_tensor(array).astype(np.float64)
    },
    "IdsOneOff": {
        "to_tensor": lambda backend, to_tensor, array: to_tensor(array + (array.dtype.kind == "i"))
    },
    "OneBehind": {"_tensors": of_the_batch_before},
}
FED_MASKED: dict[str, Changes] = {
    "LengthsOffByOne": fed(encoder_lengths=lambda given: given.encoder_lengths - 1),
    "LengthsForgotten": fed(encoder_lengths=lambda given: None),
    "DividedByItsOwnWeights": fed(loss_positions=lambda given: given.target_weights.sum()),
    "WeightsOfTheBatchBefore": {"_tensors": weights_of_the_batch_before},
}


# Decoding


def stops_early(
    backend: Backend, translate: Change, ids: Ids, lengths: Ids, max_length: int
) -> Ids:
    return translate(ids, lengths, max_length // 2)


def stops_early_alone(
    backend: Backend, translate: Change, ids: Ids, lengths: Ids, max_length: int
) -> Ids:
    return translate(ids, lengths, max_length // 2 if len(ids) == 1 else max_length)


class Mixed(GreedySearch):
    """A search that names the rows that stay in the wrong order."""

    def extend(self, logits: Any) -> None:
        super().extend(logits)
        self.rows = None if self.rows is None else self.rows[::-1]


def rows_mixed(backend: Backend, decode: Change, *given: Any) -> None:
    """When rows that have ended leave the batch, those that stay take each other's states."""
    *sources, search = given
    if isinstance(search, GreedySearch):
        search.__class__ = Mixed
    decode(*sources, search)


def beams_stop_early(backend: Backend, decode: Change, *given: Any) -> None:
    *sources, search = given
    if isinstance(search, BeamSearch):
        search.max_length //= 2
    decode(*sources, search)


# Something else than was compared, once it is timed


def later(otherwise: Change) -> Change:
    """Train honestly for HONEST_STEPS, and then `otherwise`."""

    def train(backend: Any, honest: Change, batches: Batches, report: OnStep) -> Metrics:
        backend.taken = vars(backend).get("taken", 0) + len(batches)
        is_honest = backend.taken <= HONEST_STEPS
        return honest(batches, report) if is_honest else otherwise(backend, honest, batches, report)

    return train


def nothing(backend: Backend, train: Change, batches: Batches, report: OnStep) -> Metrics:
    return timed_steps(lambda batch: (4.0, np.ones(3)), batches, np.array)


def coarser(backend: Backend, train: Change, batches: Batches, report: OnStep) -> Metrics:
    """Weights are rounded to half precision before the steps."""
    state = backend.dump()
    half = {
        name: weight.astype(np.float16).astype(weight.dtype)
        for name, weight in state.weights.items()
    }
    backend.load(ModelState(half, state.mean_squares))
    return train(batches, report)


def nothing_while_timed(
    backend: Backend, train: Change, batches: Batches, report: OnStep
) -> Metrics:
    """Turns hear no report."""
    return (
        nothing(backend, train, batches, report) if report is unreported else train(batches, report)
    )


def decodes_half(backend: Any, translate: Change, ids: Ids, lengths: Ids, max_length: int) -> Ids:
    backend.decoded = vars(backend).get("decoded", 0) + 1
    return translate(ids, lengths, max_length // 6 if backend.decoded > 3 else max_length)


# Groups


def mean_of_means(backend: Backend, tensors: Change, shard: Batch) -> Any:
    """Each worker divides its loss by the number of its own rows,
    so that the rows of a smaller shard weigh more."""
    return tensors(replace(shard, loss_rows=len(shard) * backend.group.size))


def first_shard_twice(backend: Backend, train: Change, batches: Batches, report: OnStep) -> Metrics:
    with patch.object(backend.group, "rank", 0):
        return train(batches, report)


def slots_of_its_own(backend: Backend, train_step: Change, batch: Any) -> Any:
    """Each worker's slots are the mean squares of its own gradients, not of the group's."""
    gradients = backend._arrays(backend.file.gradients(backend.model, batch)[2])
    slots = _decayed(backend.dump().mean_squares, gradients, backend.train_config.rho)
    result = train_step(batch)
    backend.load(ModelState(backend.dump().weights, slots))
    return result


OF_GROUPS: dict[str, Changes] = {
    "MeanOfMeans": {"_tensors": mean_of_means},
    "FirstShardTwice": {"train": first_shard_twice},
    "SlotsOfItsOwn": {"_train_step": slots_of_its_own},
}
METHODS: dict[str, Changes] = {
    "GatesSwapped": {"load": swapped, "dump": swapped_back, "gradients": swapped_gradients},
    "TransposedOnce": {"load": transposed},
    "SquareTransposed": {"load": transposed, "dump": transposed_back},
    "OneRowDisturbed": {"load": one_row_disturbed},
    "SlotsForgotten": {"load": slots_forgotten},
    "NotANumber": {"forward": not_a_number},
    "LaterStepsDisturbed": {"forward": later_steps_disturbed},
    "WrongGradient": {"gradients": wrong_gradient},
    "EpsilonOutsideTheRoot": {"_train_step": epsilon_outside},
    "WeightsOfTheFirstStep": {"_train_step": weights_of_the_first_step},
    "SecondBiasTrained": {"_train_step": biases_step_twice},
    "NothingReported": {
        "train": lambda backend, train, batches, report: train(batches, unreported)
    },
    "BatchesShuffled": {"train": batches_shuffled},
    "LossOfALastBatchWeighedAsAWhole": {"evaluate": weighed_as_a_whole},
    "LastBatchLeftOut": {"evaluate": last_batch_left_out},
    "CountedAfterTheStep": {"_train_step": counted_after_the_step},
    "StopsEarly": {"translate": stops_early},
    "StopsEarlyAlone": {"translate": stops_early_alone},
    "RowsMixed": {"decode": rows_mixed},
    "BeamsStopEarly": {"decode": beams_stop_early},
    "NothingLater": {"train": later(nothing)},
    "CoarserLater": {"train": later(coarser)},
    "WithoutUpdatesLater": {
        "train": later(lambda backend, train, batches, report: backend.evaluate(batches))
    },
    "NothingWhileTimed": {"train": nothing_while_timed},
    "DecodesHalfLater": {"translate": decodes_half},
}
# Of model files.
FUNCTIONS: dict[str, Changes] = {
    "StatesExchanged": {"Seq2Seq.encode": states_exchanged},
    "BiasLeftOut": {"Seq2Seq.decode": bias_left_out},
    "EncoderNotTaught": {"Seq2Seq.encode": encoder_not_taught},
    "StartScaled": {"start": start_scaled},
    "TargetsPaddedWithZeros": {"loss_of": targets_padded_with_zeros},
    "DividedByItsOwnPositions": {"loss_of": divided_by_its_own_positions},
    "LossByAPlainSum": {"loss_of": loss_by_a_plain_sum},
    "FarLogitsClipped": {"loss_of": far_logits_clipped},
    "StopsNotCountedAsReal": {"loss_of": stops_not_real},
    "PaddingCountedThoughMasked": {"loss_of": padding_counted},
    "OtherEpsilon": {"RMSprop": with_rates(epsilon=1e-6)},  # Paddle's default
    "OtherRho": {"RMSprop": with_rates(rho=0.99)},  # torch's default
    "ConstantsBuiltIn": {"RMSprop": with_rates(rho=DEFAULTS.rho, epsilon=DEFAULTS.epsilon)},
    "LearningRateIgnored": {"RMSprop": with_rates(learning_rate=DEFAULTS.learning_rate)},
    **OF_ATTENTION,
    **OF_TRANSFORMER,
}
for name, changes in (FED | FED_MASKED).items():
    (FUNCTIONS if "to_tensor" in changes else METHODS)[name] = changes
DRIVERS = SimpleNamespace(**{name: partial(Planted, name) for name in (METHODS | FUNCTIONS)})

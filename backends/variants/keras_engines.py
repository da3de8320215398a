"""`keras:on-tensorflow`, `keras:on-jax`, `keras:on-torch`: one program as Keras's guides write it, under each engine.

A functional model, `compile`, `train_on_batch` and `predict_on_batch`, and no operator but those of `keras.ops`. Its
process names the engine in KERAS_BACKEND. The functions are those of a lesson, under the same names; tensors are
NumPy arrays, which Keras converts.
"""

import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, final

import keras
import numpy as np
from keras import layers, ops

from backends import TABLE
from backends.lesson_backend import KerasBackend
from common.errors import CannotBeginError
from common.tensors import Array


class Seq2Seq(NamedTuple):
    """Three models of the same layers: one trains, and two decode."""

    training: keras.Model  # from both inputs to logits (N, T_dec, V_dec)
    encoder: keras.Model  # to the states (N, H)
    decoder: keras.Model  # from characters and states to logits and the next states


class WeightedModel(keras.Model):
    """Its loss is the mean over the rows of their weighted cross-entropies, each summed over its positions."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        # Usually: compile(loss=keras.losses.CategoricalCrossentropy(from_logits=True)). On JAX XLA adds up all its
        # numbers one after another, which is off by a part in a million; so does TensorFlow in one long product.
        cross_entropy = keras.losses.categorical_crossentropy(y, y_pred, from_logits=True)  # (N, T_dec)
        return ops.mean(ops.einsum("nt,nt->n", sample_weight, cross_entropy))


class Batch(NamedTuple):
    """N sentence pairs, padded to T_enc and T_dec characters."""

    encoder_input_data: Array  # (N, T_enc, V_enc), one-hot
    decoder_input_data: Array  # (N, T_dec, V_dec), one-hot
    decoder_target_data: Array  # (N, T_dec, V_dec), one-hot, one step ahead of the input
    target_weights: Array  # (N, T_dec), what each position weighs in the loss
    loss_positions: Array  # (), what the summed loss is divided by
    encoder_lengths: Array | None = None  # (N,) where padding is masked


def prepare(dtype: str = "float32", device: str = "cpu", flush_denormals: bool = False) -> None:
    """Make models of this precision from now on. Each engine treats denormals in its own way."""
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)


def build(num_encoder_tokens: int, num_decoder_tokens: int, latent_dim: int, masked: bool = False) -> Seq2Seq:
    """The model, with Keras's own initial weights. Where it is `masked`, steps whose input is all zeros are left out
    of the encoder's states."""
    encoder_inputs = keras.Input((None, num_encoder_tokens))
    encoder = layers.LSTM(latent_dim, return_state=True, name="encoder")
    _, *states = encoder(layers.Masking()(encoder_inputs) if masked else encoder_inputs)  # (N, H) each
    decoder_inputs = keras.Input((None, num_decoder_tokens))
    decoder = layers.LSTM(latent_dim, return_sequences=True, return_state=True, name="decoder")
    dense = layers.Dense(num_decoder_tokens, name="dense")
    outputs, _, _ = decoder(decoder_inputs, initial_state=states)
    states_inputs = [keras.Input((latent_dim,)), keras.Input((latent_dim,))]
    next_outputs, *next_states = decoder(decoder_inputs, initial_state=states_inputs)
    return Seq2Seq(
        WeightedModel([encoder_inputs, decoder_inputs], dense(outputs)),
        keras.Model(encoder_inputs, states),
        keras.Model([decoder_inputs, *states_inputs], [dense(next_outputs), *next_states]),
    )


def weights_of(model: Seq2Seq) -> dict[str, keras.Variable]:
    """The trained weights, by their names."""
    return named(model.training.trainable_variables)


def named(variables: Sequence[keras.Variable]) -> dict[str, keras.Variable]:
    """Variables that stand in the order of the layers, by the names of the weights that they belong to."""
    names = [f"{layer}/{kind}" for layer in ("encoder", "decoder") for kind in ("kernel", "recurrent_kernel", "bias")]
    return dict(zip([*names, "dense/kernel", "dense/bias"], variables, strict=True))


def layout(name: str, array: Array) -> Array:
    """A weight in Keras's layout."""
    return array


def metrics(stop_token: int) -> list[Callable[[Any, Any], Any]]:
    """The metrics of `compile` that count right positions, and right positions that are no padding."""

    def right(targets, logits):
        return ops.cast(ops.equal(ops.argmax(targets, -1), ops.argmax(logits, -1)), logits.dtype)  # (N, T_dec)

    def right_real(targets, logits):
        ends = targets[..., stop_token]  # (N, T_dec), 1 at each row's last character
        return right(targets, logits) * (1 - (ops.cumsum(ends, axis=1) - ends))

    return [right, right_real]


class GradientKeeper(keras.optimizers.Optimizer):
    """Keeps the gradients that it is given, and changes no weight."""

    def build(self, variables: list[keras.Variable]) -> None:
        super().build(variables)
        self.gradients = self.add_optimizer_variables(variables, "gradient")

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any) -> None:
        self.assign(self.gradients[self._get_variable_index(variable)], gradient)


def encoder_inputs(data: Array, lengths: Array | None) -> Array:
    """The encoder's input: where lengths (N,) are given, zeros from each row's end on, which are masked."""
    return data if lengths is None else data * (np.arange(data.shape[1]) < lengths[:, None])[..., None]


def model_inputs(batch: Batch) -> list[Array]:
    return [encoder_inputs(batch.encoder_input_data, batch.encoder_lengths), batch.decoder_input_data]


def arguments_of(batch: Batch) -> tuple[list[Array], Array, Array]:
    """The arguments of `train_on_batch`: inputs, targets and the positions' weights in a mean over rows."""
    weights = batch.target_weights * (len(batch.target_weights) / batch.loss_positions)  # (N, T_dec)
    return model_inputs(batch), batch.decoder_target_data, weights


def loss_and_counts(logs: dict[str, float], batch: Batch) -> tuple[float, Array]:
    """The loss, and its counts (3,): summed cross-entropy, right positions, right positions that are no padding."""
    shares = np.array([logs["right"], logs["right_real"]]) * batch.target_weights.sum(dtype="float64")
    return logs["loss"], np.array([logs["loss"] * batch.loss_positions, *shares.round()])


def train_step(model: Seq2Seq, optimizer: Any, batch: Batch) -> tuple[float, Array]:
    """The loss and its counts (3,) before the step."""
    return loss_and_counts(model.training.train_on_batch(*arguments_of(batch), return_dict=True), batch)


def evaluate_step(model: Seq2Seq, batch: Batch) -> tuple[float, Array]:
    """The loss and its counts (3,)."""
    return loss_and_counts(model.training.test_on_batch(*arguments_of(batch), return_dict=True), batch)


def forward(model: Seq2Seq, batch: Batch) -> tuple[Any, Array, Array]:
    """Probabilities (N, T_dec, V_dec) and the encoder's states (N, H)."""
    probabilities = ops.softmax(model.training.predict_on_batch(model_inputs(batch)))
    return probabilities, *start(model, batch.encoder_input_data, batch.encoder_lengths)


def start(model: Seq2Seq, encoder_input_data: Array, encoder_lengths: Array | None = None) -> list[Array]:
    """The states (N, H) from which decoding starts."""
    return model.encoder.predict_on_batch(encoder_inputs(encoder_input_data, encoder_lengths))


def step(model: Seq2Seq, decoder_input_data: Array, state_h: Array, state_c: Array) -> tuple[Array, ...]:
    """One character (N, V_dec) further: logits (N, V_dec) and the next states (N, H)."""
    logits, *states = model.decoder.predict_on_batch([decoder_input_data[:, None], state_h, state_c])
    return logits[:, 0], *states


def assign(weight: keras.Variable, array: Array) -> None:
    """Set a weight in place."""
    weight.assign(array)


def to_tensor(array: Array) -> Array:
    """The array, which Keras converts."""
    return array


def to_array(tensor: Any) -> Array:
    """A copy of the tensor's numbers."""
    return np.array(ops.convert_to_numpy(tensor))


class KerasCompiled(KerasBackend):
    """Weights, slots and gradients of a model that `compile` has made ready to train."""

    trained: keras.Model

    def compile(self, model: keras.Model, *arguments: Any, **named_arguments: Any) -> None:
        model.compile(*arguments, **named_arguments)
        model.optimizer.build(model.trainable_variables)  # usually the first step makes its variables

    def weights(self) -> dict[str, Any]:
        return named(self.trained.trainable_variables)

    def mean_squares(self) -> dict[str, Any]:
        return named(self.trained.optimizer.variables[2:])  # after the count of steps and the learning rate

    def arguments(self, batch: Any) -> tuple[Any, ...]:
        """The arguments of `train_on_batch`."""
        return [batch.encoder_input_data, batch.decoder_input_data], batch.decoder_target_data

    def gradients(self, batch: Any) -> tuple[float, dict[str, Array]]:
        logs = self._keeping.train_on_batch(*self.arguments(batch), return_dict=True)
        return logs["loss"], self._arrays(named(self._keeping.optimizer.gradients))

    @cached_property
    def _keeping(self) -> keras.Model:
        """A second model of the same layers, whose optimizer keeps what it is given."""
        model = type(self.trained)(self.trained.inputs, self.trained.outputs)
        self.compile(model, GradientKeeper(0.0), self.trained.loss)
        return model


@final
class KerasOnEngine(KerasCompiled):
    @classmethod
    def import_framework(cls) -> Any:
        return sys.modules[__name__]

    def sees_gpu(self) -> bool:
        raise CannotBeginError("Keras's engines are compared on the CPU; use --device cpu")

    def build(self) -> None:
        """Raises CannotBeginError for a precision in which the engine does not compute."""
        config, train, self.lesson = self.config, self.train_config, self.import_framework()
        why = TABLE[f"keras:on-{keras.backend.backend()}"].float32_only
        if config.dtype != "float32" and why:
            raise CannotBeginError(f"found dtype {config.dtype}, and {why}; use --dtype float32")
        self.lesson.prepare(config.dtype)
        sizes = config.num_encoder_tokens, config.num_decoder_tokens, config.latent_dim
        self.model = build(*sizes, masked=config.padding == "mask")
        self.trained = self.model.training
        # Not a subclass, as in the lesson: on torch Keras exchanges this class alone for one that steps all weights
        # at once.
        self.optimizer = keras.optimizers.RMSprop(train.learning_rate, train.rho, epsilon=train.epsilon)
        self.compile(self.trained, self.optimizer, weighted_metrics=metrics(config.stop_token))
        self.own_settings = {"jit_compile": self.trained.jit_compile}

    def arguments(self, batch: Any) -> tuple[Any, ...]:
        return arguments_of(self._tensors(batch))

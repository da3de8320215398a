"""`keras:example`: the official Keras example's own way behind Rosetta's interface.

It runs on TensorFlow; `keras:on-jax` and `keras:on-torch` are the same program under Keras's other
engines. Its process names the engine in KERAS_BACKEND.

The program holds whole one-hot tensors in memory, trains by `compile` and `fit`, builds models anew
for sampling, and decodes by `predict` in a Python loop, one sentence and one character at a time.
It starts from the same weights as all backends, its optimizer has the same constants, and its
epochs have the same order. It is compared with the reference in float32 only, in which it trains.

The functions are those of a model file, under the same names, but for `loss_of`, `train_step` and
`evaluate_step`, in place of which stand `fit` and `evaluate`. Tensors are NumPy arrays, which Keras
converts.
"""

from collections.abc import Sequence
from functools import cached_property
from time import perf_counter
from typing import Any, NamedTuple, final

import keras
import numpy as np

from backends.interface import Backend, Metrics, OnStep, report_is_due
from common import tensors
from common.errors import CannotBeginError
from common.settings import ModelConfig
from common.tensors import Array, Batches, Ids


class Seq2Seq:
    """Three models of the same layers: one trains, and two decode."""

    def __init__(self, num_encoder_tokens: int, num_decoder_tokens: int, latent_dim: int) -> None:
        encoder_inputs = keras.Input(shape=(None, num_encoder_tokens))
        encoder = keras.layers.LSTM(latent_dim, return_state=True)
        _, state_h, state_c = encoder(encoder_inputs)
        decoder_inputs = keras.Input(shape=(None, num_decoder_tokens))
        decoder = keras.layers.LSTM(latent_dim, return_sequences=True, return_state=True)
        decoder_outputs, _, _ = decoder(decoder_inputs, initial_state=[state_h, state_c])
        dense = keras.layers.Dense(num_decoder_tokens, activation="softmax")
        self.training = keras.Model([encoder_inputs, decoder_inputs], dense(decoder_outputs))

        self.encoder = keras.Model(encoder_inputs, [state_h, state_c])
        states_inputs = [keras.Input(shape=(latent_dim,)), keras.Input(shape=(latent_dim,))]
        decoder_outputs, state_h, state_c = decoder(decoder_inputs, initial_state=states_inputs)
        self.decoder = keras.Model(
            [decoder_inputs, *states_inputs], [dense(decoder_outputs), state_h, state_c]
        )

    @cached_property
    def keeping(self) -> keras.Model:
        """A fourth model, whose optimizer keeps the gradients that it is given:
        `train_on_batch` returns none."""
        model = keras.Model(self.training.inputs, self.training.outputs)
        model.compile(GradientKeeper(0.0), "categorical_crossentropy")
        return model

    def named_weights(self) -> dict[str, keras.Variable]:
        """The trained weights by their names."""
        return named(self.training.trainable_variables)


class Batch(NamedTuple):
    """N sentence pairs, padded to T_enc and T_dec characters."""

    encoder_input_data: Array  # (N, T_enc, V_enc), one-hot
    decoder_input_data: Array  # (N, T_dec, V_dec), one-hot
    decoder_target_data: Array  # (N, T_dec, V_dec), one-hot, one step ahead of the input
    encoder_lengths: None = None  # padding is never masked


def has_gpu() -> bool:
    """True if the engine sees a GPU."""
    return keras.backend.backend() == "tensorflow" and bool(keras.distribution.list_devices("gpu"))


def prepare(dtype: str = "float32", device: str = "cpu") -> None:
    """Make models of this precision from now on."""
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)


def named(variables: Sequence[keras.Variable]) -> dict[str, keras.Variable]:
    """Variables that stand in the order of the layers,
    by the names of the weights that they belong to."""
    names = [
        f"{layer}/{kind}"
        for layer in ("encoder", "decoder")
        for kind in ("kernel", "recurrent_kernel", "bias")
    ]
    return dict(zip([*names, "dense/kernel", "dense/bias"], variables, strict=True))


def layout(name: str, array: Array) -> Array:
    """A weight in Keras's layout."""
    return array


class RMSprop:
    """Keras's own, which `compile` makes, with these constants."""

    def __init__(self, model: Seq2Seq, learning_rate: float, rho: float, epsilon: float) -> None:
        model.training.compile(
            optimizer="rmsprop", loss="categorical_crossentropy", metrics=["accuracy"]
        )
        self.of_model = model.training.optimizer
        self.of_model.learning_rate = learning_rate
        self.of_model.rho = rho
        self.of_model.epsilon = epsilon
        # Usually the first step makes its variables.
        self.of_model.build(model.training.trainable_variables)

    @property
    def mean_squares(self) -> list[keras.Variable]:
        return list(self.of_model.variables[2:])  # after the count of steps and the learning rate


class GradientKeeper(keras.optimizers.Optimizer):
    """Keeps the gradients that it is given, and changes no weight."""

    def build(self, variables: list[keras.Variable]) -> None:
        super().build(variables)
        self.gradients = self.add_optimizer_variables(variables, "gradient")

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any) -> None:
        self.assign(self.gradients[self._get_variable_index(variable)], gradient)


def gradients(model: Seq2Seq, batch: Batch) -> tuple[float, None, dict[str, keras.Variable]]:
    """The loss and the gradient of each weight by its name."""
    inputs = [batch.encoder_input_data, batch.decoder_input_data]
    logs = model.keeping.train_on_batch(inputs, batch.decoder_target_data, return_dict=True)
    return logs["loss"], None, named(model.keeping.optimizer.gradients)


def forward(model: Seq2Seq, batch: Batch) -> tuple[Array, ...]:
    """Probabilities (N, T_dec, V_dec) and the encoder's states."""
    probabilities = model.training.predict(
        [batch.encoder_input_data, batch.decoder_input_data], verbose=0
    )
    return probabilities, *start(model, batch.encoder_input_data)


def start(model: Seq2Seq, encoder_input_data: Array, encoder_lengths: None = None) -> list[Array]:
    """The states from which decoding starts."""
    return model.encoder.predict(encoder_input_data, verbose=0)


def step(model: Seq2Seq, decoder_input_data: Array, *states: Array) -> tuple[Array, ...]:
    """One character (N, V_dec) further: log-probabilities (N, V_dec) and the next states."""
    output_tokens, *next_states = model.decoder.predict(
        [decoder_input_data[:, None], *states], verbose=0
    )
    with np.errstate(divide="ignore"):
        return np.log(output_tokens[:, -1]), *next_states


def take(state: Array, rows: Ids) -> Array:
    """The rows of a state that `rows` (R,) name, in their order."""
    return state[rows]


def assign(weight: keras.Variable, array: Array) -> None:
    """Set a weight in place."""
    weight.assign(array)


def to_tensor(array: Array) -> Array:
    """The array, which Keras converts."""
    return array


def to_array(tensor: Any) -> Array:
    """A copy of the tensor's numbers."""
    return np.array(keras.ops.convert_to_numpy(tensor))


@final
class Example(Backend):
    """Trains and evaluates by `fit` and `evaluate`, and decodes one sentence after another."""

    def __init__(self, file: Any, model: ModelConfig, *rest: Any) -> None:
        """Raises CannotBeginError where padding is masked."""
        if model.padding != "space":
            raise CannotBeginError(
                "keras:example pads with spaces, as the example does; leave out --padding"
            )
        super().__init__(file, model, *rest)
        self.mean_squares()  # compiles the model, which evaluating needs, too
        self.own_settings = {"jit_compile": self.model.training.jit_compile}

    def train(self, batches: Batches, on_step: OnStep) -> Metrics:
        steps = StepRecorder(on_step)
        # Of all rows, made before `fit` begins, as in the example.
        inputs, targets = self._arguments(batches.whole())
        size, training = batches.batch_size, self.model.training
        training.fit(
            inputs, targets, batch_size=size, epochs=1, shuffle=False, verbose=0, callbacks=[steps]
        )
        # `fit` counts no right answers among the real characters.
        return steps.metrics(batches, correct_real=[np.nan] * len(steps.losses))

    def evaluate(self, batches: Batches) -> Metrics:
        steps = StepRecorder(on_step=None)
        whole, size, training = batches.whole(), batches.batch_size, self.model.training
        inputs, targets = self._arguments(whole)
        training.evaluate(inputs, targets, batch_size=size, verbose=0, callbacks=[steps])
        predicted = training.predict(inputs, batch_size=size, verbose=0).argmax(-1)
        right = (predicted == whole.decoder_target_ids) * whole.real_positions
        correct_real = [right[start : start + size].sum() for start in range(0, len(whole), size)]
        return steps.metrics(batches, correct_real)

    def _arguments(self, rows: tensors.Batch) -> tuple[list[Array], Array]:
        """The arguments of `fit`."""
        batch = self._tensors(rows)
        return [batch.encoder_input_data, batch.decoder_input_data], batch.decoder_target_data

    def translate(self, encoder_ids: Ids, encoder_lengths: Ids, max_length: int) -> Ids:
        ids = np.full((len(encoder_ids), max_length), self.config.stop_token)
        for row in range(len(encoder_ids)):
            alone = slice(row, row + 1)
            (sentence,) = super().translate(encoder_ids[alone], encoder_lengths[alone], max_length)
            ids[row, : len(sentence)] = sentence
        return ids


class StepRecorder(keras.callbacks.Callback):
    """Records each step's own loss and accuracy, which Keras averages over the epoch,
    and when the steps ended."""

    def __init__(self, on_step: OnStep | None) -> None:
        super().__init__()
        self.on_step = on_step
        self.losses: list[float] = []
        self.accuracies: list[float] = []
        self.stamps: list[float] = []  # the first step's start, then every step's end

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if not self.stamps:
            self.stamps.append(perf_counter())
            self.reported = self.stamps[0]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.losses.append(float(logs["loss"]))
        self.accuracies.append(float(logs["accuracy"]))
        self.model.reset_metrics()
        if self.on_step and report_is_due(self.reported):
            self.model.stop_training = bool(self.on_step(len(self.losses), self.losses[-1]))
            self.reported = perf_counter()
        self.stamps.append(perf_counter())

    on_test_batch_begin, on_test_batch_end = on_train_batch_begin, on_train_batch_end

    def metrics(self, batches: Batches, correct_real: list[float]) -> Metrics:
        """The recorded metrics, with the counts of right real positions, one a step."""
        sums = [batch.sums for batch in batches.part(0, len(self.losses))]
        means = np.array([self.losses, self.accuracies]) * [weight_sum for weight_sum, _ in sums]
        counts = np.stack([*means, correct_real], axis=1)
        # Counts are read back within the steps.
        return Metrics.of(counts, sums, [*self.stamps, self.stamps[-1]])

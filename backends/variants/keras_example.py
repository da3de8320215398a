"""`keras:example`: the official Keras example's own way behind Rosetta's interface. Speeds are given as ratios to it.

It holds whole one-hot tensors in memory, trains by `compile` and `fit`, builds models anew for sampling, and decodes
by `predict` in a Python loop, one sentence and one character at a time. It starts from the same weights as all
backends, and its epochs have the same order. Its optimizer keeps Keras's constants, which are not rounded to float32,
so it is compared with the referee in float32 only.
"""

from pathlib import Path
from time import perf_counter
from typing import Any, final

import keras
import numpy as np

from backends.beam import BeamSearch
from backends.interface import Forward, Metrics, Report, report_is_due
from backends.variants.keras_engines import KerasCompiled
from common.errors import CannotBeginError
from common.tensors import Array, Batch, Batches, Ids, one_hot


@final
class KerasExample(KerasCompiled):
    writer = "backends.variants.keras_example:write_example"

    def build(self) -> None:
        config = self.config
        if config.padding != "space":
            raise CannotBeginError("keras:example pads with spaces, as the example does; leave out --padding")
        self.lesson = self.import_framework()
        self.lesson.prepare(config.dtype, self.device)
        encoder_inputs = keras.Input(shape=(None, config.num_encoder_tokens))
        encoder = keras.layers.LSTM(config.latent_dim, return_state=True)
        _, state_h, state_c = encoder(encoder_inputs)
        decoder_inputs = keras.Input(shape=(None, config.num_decoder_tokens))
        decoder = keras.layers.LSTM(config.latent_dim, return_sequences=True, return_state=True)
        decoder_outputs, _, _ = decoder(decoder_inputs, initial_state=[state_h, state_c])
        dense = keras.layers.Dense(config.num_decoder_tokens, activation="softmax")
        self.model = keras.Model([encoder_inputs, decoder_inputs], dense(decoder_outputs))
        self.compile(self.model, optimizer="rmsprop", loss="categorical_crossentropy", metrics=["accuracy"])
        self.model.optimizer.learning_rate = self.train_config.learning_rate
        self.own_settings = {"jit_compile": self.model.jit_compile}
        self.trained = self.model

        self.encoder_model = keras.Model(encoder_inputs, [state_h, state_c])
        states_inputs = [keras.Input(shape=(config.latent_dim,)), keras.Input(shape=(config.latent_dim,))]
        decoder_outputs, state_h, state_c = decoder(decoder_inputs, initial_state=states_inputs)
        self.decoder_model = keras.Model([decoder_inputs, *states_inputs], [dense(decoder_outputs), state_h, state_c])

    def forward(self, batch: Batch) -> Forward:
        encoder_input_data = batch.encoder_input_data
        state_h, state_c = self.encoder_model.predict(encoder_input_data, verbose=0)
        probabilities = self.model.predict([encoder_input_data, batch.decoder_input_data], verbose=0)
        return Forward(probabilities, state_h, state_c)

    def train(self, batches: Batches, report: Report) -> Metrics:
        steps = StepRecorder(report)
        inputs, targets = self.arguments(batches.whole())  # of all rows, made before `fit` begins, as in the example
        size = batches.batch_size
        self.model.fit(inputs, targets, batch_size=size, epochs=1, shuffle=False, verbose=0, callbacks=[steps])
        # `fit` counts no right answers among the real characters.
        return steps.metrics(batches, correct_real=[np.nan] * len(steps.losses))

    def evaluate(self, batches: Batches) -> Metrics:
        steps = StepRecorder(report=None)
        whole, size = batches.whole(), batches.batch_size
        inputs, targets = self.arguments(whole)
        self.model.evaluate(inputs, targets, batch_size=size, verbose=0, callbacks=[steps])
        predicted = self.model.predict(inputs, batch_size=size, verbose=0).argmax(-1)
        right = (predicted == whole.decoder_target_ids) * whole.real_positions
        correct_real = [right[start : start + size].sum() for start in range(0, len(whole), size)]
        return steps.metrics(batches, correct_real)

    def translate(self, encoder_ids: Ids, encoder_lengths: Ids, max_length: int) -> Ids:
        ids = np.full((len(encoder_ids), max_length), self.config.stop_token)
        encoder_input_data = one_hot(encoder_ids, self.config.num_encoder_tokens, self.config.dtype)
        for row in range(len(encoder_ids)):
            sentence = self._decode_sequence(encoder_input_data[row : row + 1], max_length)
            ids[row, : len(sentence)] = sentence
        return ids

    def beam_search(self, encoder_ids: Ids, encoder_lengths: Ids, search: BeamSearch) -> None:
        """The example has no beam search. This one computes each step by `predict`, as the example does."""
        config = self.config
        input_seqs = one_hot(encoder_ids, config.num_encoder_tokens, config.dtype)  # (N, T_enc, V_enc)
        states = self.encoder_model.predict(input_seqs, verbose=0)
        while not search.ended:
            target_seqs = one_hot(search.sampled[:, None], config.num_decoder_tokens, config.dtype)  # (R, 1, V_dec)
            states = [state[search.rows] for state in states]  # (R, H) each
            output_tokens, *states = self.decoder_model.predict([target_seqs, *states], verbose=0)
            search.extend(np.log(output_tokens[:, -1]))

    def _decode_sequence(self, input_seq: Array, max_length: int) -> list[int]:
        """The ids that follow from one sentence (1, T_enc, V_enc), "\\n" included."""
        states = self.encoder_model.predict(input_seq, verbose=0)
        sampled = self.config.start_token
        sentence: list[int] = []
        while len(sentence) < max_length:
            target_seq = one_hot(np.array([[sampled]]), self.config.num_decoder_tokens, self.config.dtype)
            output_tokens, *states = self.decoder_model.predict([target_seq, *states], verbose=0)
            sampled = int(output_tokens[0, -1].argmax())
            sentence.append(sampled)
            if sampled == self.config.stop_token:
                break
        return sentence


class StepRecorder(keras.callbacks.Callback):
    """Records each step's own loss and accuracy, which Keras averages over the epoch, and when the steps ended."""

    def __init__(self, report: Report | None) -> None:
        super().__init__()
        self.report = report
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
        if self.report and report_is_due(self.reported):
            self.model.stop_training = bool(self.report(len(self.losses), self.losses[-1]))
            self.reported = perf_counter()
        self.stamps.append(perf_counter())

    on_test_batch_begin, on_test_batch_end = on_train_batch_begin, on_train_batch_end

    def metrics(self, batches: Batches, correct_real: list[float]) -> Metrics:
        """The recorded metrics, with the counts of right real positions, one a step."""
        sums = [batch.sums for batch in batches.part(0, len(self.losses))]
        means = np.array([self.losses, self.accuracies]) * [weight_sum for weight_sum, _ in sums]
        counts = np.stack([*means, correct_real], axis=1)
        return Metrics.of(counts, sums, [*self.stamps, self.stamps[-1]])  # counts are read back within the steps


def write_example(backend: KerasExample, folder: Path) -> list[str]:
    """Save the model as the example does, and its weights alone, which `convert --from` reads."""
    backend.model.save(folder / "s2s_model.keras")
    backend.model.save_weights(folder / "s2s_model.weights.h5")
    return ["s2s_model.keras", "s2s_model.weights.h5"]

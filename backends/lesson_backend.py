"""The adapter between a lesson and the interface: batches, timing, layouts and decoding.

A lesson is a file of backends/lessons/, which imports its framework and NumPy alone. Whatever frameworks say
differently, each says in its lesson under the same name.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.beam import BeamSearch
from backends.interface import (
    Backend,
    Forward,
    Metrics,
    Report,
    flush_denormals,
    timed_steps,
)
from common.tensors import Array, Batch, Batches, Ids, one_hot
from common.weights import Arrays, ModelState, check_state

# From the last characters (R,) and the states (R, H) to logits (R, V_dec) and the next states.
DecoderStep = Callable[..., tuple[Any, ...]]


class LessonBackend(Backend):
    @classmethod
    def import_framework(cls) -> Any:
        return import_module(f"backends.lessons.{cls.framework}_lesson")

    def sees_gpu(self) -> bool:
        return bool(self.import_framework().has_gpu())

    def build(self) -> None:
        config, train = self.config, self.train_config
        self.lesson = self.import_framework()
        self.lesson.prepare(config.dtype, self.device, flush_denormals())
        self.model = self.make_model(config.num_encoder_tokens, config.num_decoder_tokens, config.latent_dim)
        self.optimizer = self.lesson.RMSprop(self.model, train.learning_rate, train.rho, train.epsilon)

    def make_model(self, num_encoder_tokens: int, num_decoder_tokens: int, latent_dim: int) -> Any:
        """The lesson's model, for which a variant has one of its own."""
        return self.lesson.Seq2Seq(num_encoder_tokens, num_decoder_tokens, latent_dim)

    def weights(self) -> dict[str, Any]:
        """The framework's tensors of the weights."""
        tensors: dict[str, Any] = self.lesson.weights_of(self.model)
        return tensors

    def mean_squares(self) -> dict[str, Any]:
        """The framework's tensors of RMSprop's slots."""
        return dict(zip(self.weights(), self.optimizer.mean_squares, strict=True))

    def load(self, state: ModelState) -> None:
        check_state(state, self.config)
        for tensors, arrays in ((self.weights(), state.weights), (self.mean_squares(), state.mean_squares)):
            for name, tensor in tensors.items():
                self.lesson.assign(tensor, self.lesson.layout(name, arrays[name]))

    def dump(self) -> ModelState:
        return ModelState(self._arrays(self.weights()), self._arrays(self.mean_squares()))

    def _arrays(self, tensors: dict[str, Any]) -> Arrays:
        return {name: self.lesson.layout(name, self.lesson.to_array(tensor)) for name, tensor in tensors.items()}

    def forward(self, batch: Batch) -> Forward:
        return Forward(*map(self.lesson.to_array, self.lesson.forward(self.model, self._tensors(batch))))

    def gradients(self, batch: Batch) -> tuple[float, Arrays]:
        loss, _, gradients = self.lesson.gradients(self.model, self._tensors(batch))
        return float(loss), self._arrays(gradients)

    def train(self, batches: Batches, report: Report) -> Metrics:
        return timed_steps(lambda batch: self._train_step(self._tensors(batch)), batches, self._stacked, report)

    def _train_step(self, batch: Any) -> tuple[Any, Any]:
        loss, counts = self.lesson.train_step(self.model, self.optimizer, batch)
        return loss, counts

    def evaluate(self, batches: Batches) -> Metrics:
        return timed_steps(
            lambda batch: self.lesson.evaluate_step(self.model, self._tensors(batch)), batches, self._stacked
        )

    def translate(self, encoder_ids: Ids, encoder_lengths: Ids, max_length: int) -> Ids:
        """Rows that have ended go on unread, and leave by a quarter of the rows at a time. So the numbers of rows are
        the same for all batches of one size, and a framework that compiles a graph for each has 20 for 512 sentences.
        """
        config, step = self.config, self._decoder_step()
        states, num_rows = self._start(encoder_ids, encoder_lengths), len(encoder_ids)
        ids, length = np.full((num_rows, max_length), config.stop_token), 0
        rows = np.arange(num_rows)  # (n,) of N, those in `states`
        going = np.ones(num_rows, bool)  # (n,), those of them that have not ended
        sampled = np.full(num_rows, config.start_token)  # (n,)
        while length < max_length and going.any():
            fewer = 3 * len(rows) // 4
            if np.count_nonzero(going) <= fewer:
                kept = np.argsort(~going, kind="stable")[:fewer]  # those that go on come first
                states = self._rows_of(states, kept)
                rows, sampled, going = rows[kept], sampled[kept], going[kept]
            logits, *states = step(sampled, *states)  # (n, V_dec), (n, H), (n, H)
            sampled = self.lesson.to_array(logits).argmax(-1)  # (n,)
            ids[rows[going], length] = sampled[going]
            length += 1
            going &= sampled != config.stop_token
        return ids[:, :length]

    def beam_search(self, encoder_ids: Ids, encoder_lengths: Ids, search: BeamSearch) -> None:
        states, step = self._start(encoder_ids, encoder_lengths), self._decoder_step()
        while not search.ended:
            logits, *states = step(search.sampled, *self._rows_of(states, search.rows))
            search.extend(self.lesson.to_array(logits))

    def _start(self, encoder_ids: Ids, encoder_lengths: Ids) -> list[Any]:
        """The states (N, H) from which decoding starts."""
        data = one_hot(encoder_ids, self.config.num_encoder_tokens, self.config.dtype)
        lengths = self._lengths(encoder_lengths)
        return [
            *self.lesson.start(self.model, self._tensor(data), None if lengths is None else self._tensor(lengths))
        ]

    def _decoder_step(self) -> DecoderStep:
        """One step of the decoder's own layers."""
        lesson, rows = self.lesson, one_hot(np.arange(self.config.num_decoder_tokens), self.config.num_decoder_tokens)
        rows = rows.astype(self.config.dtype)
        return lambda sampled, *states: lesson.step(self.model, lesson.to_tensor(rows[sampled]), *states)

    def _rows_of(self, states: list[Any], rows: Ids) -> list[Any]:
        return [self.lesson.to_tensor(self.lesson.to_array(state)[rows]) for state in states]

    def _tensors(self, batch: Batch) -> Any:
        """The lesson's Batch."""
        names = [name for name in self.lesson.Batch._fields if name != "encoder_lengths"]
        tensors = {name: self._tensor(getattr(batch, name)) for name in names}
        lengths = self._lengths(batch.encoder_lengths)
        return self.lesson.Batch(**tensors, encoder_lengths=None if lengths is None else self._tensor(lengths))

    def _tensor(self, array: NDArray[Any]) -> Any:
        return self.lesson.to_tensor(array.astype(np.int64) if array.dtype.kind in "iu" else array)

    def _stacked(self, counts: list[Any]) -> Array:
        return np.stack([self.lesson.to_array(vector) for vector in counts])


class NumpyBackend(LessonBackend):
    framework = "numpy"


class KerasBackend(LessonBackend):
    framework = "keras"
    writer = "backends.native.keras:write_keras"
    reader = "backends.native.keras:read_keras"


class TorchBackend(LessonBackend):
    framework = "torch"
    writer = "backends.native.torch:write_torch"
    reader = "backends.native.torch:read_torch"


class PaddleBackend(LessonBackend):
    framework = "paddle"
    writer = "backends.native.paddle:write_paddle"
    reader = "backends.native.paddle:read_paddle"


class JaxBackend(LessonBackend):
    framework = "jax"
    writer = "backends.native.jax:write_jax"
    reader = "backends.native.jax:read_jax"

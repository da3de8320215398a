"""What becomes of one sentence, and the losses that the scripts print: numbers of the NumPy backend in float64."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from backends.numpy_backend import NumpyBackend
from common.config import TrainConfig
from common.decoding import max_decoded_length, text_of
from common.run_directory import BUNDLED_RUN, RunDirectory
from common.tensors import Batch, Batches

BATCH_SIZE, NUM_STEPS = 64, 10  # the scripts'
BEST = 3  # characters of each step


@dataclass(frozen=True)
class Step:
    """A step of the decoder."""

    fed: str  # the character that it is given
    best: list[tuple[str, float]]  # the most probable characters, the first of which is decoded


@dataclass(frozen=True)
class Walk:
    """What becomes of one sentence."""

    sentence: str
    decoded: str  # with its "\n"
    ids: list[int]  # of the sentence's characters, padding included
    vocabulary: tuple[str, ...]  # the encoder's
    decoder_vocabulary: tuple[str, ...]
    state_h: NDArray[np.floating]  # (H,)
    state_c: NDArray[np.floating]  # (H,)
    steps: list[Step]


class Referee:
    """The bundled run in the NumPy backend."""

    def __init__(self) -> None:
        run = RunDirectory.open(BUNDLED_RUN)
        self.vocabularies = run.vocabularies()
        self.corpus = self._batch(run.pairs())
        self.backend = NumpyBackend(replace(run.model_config, dtype="float64"), TrainConfig())
        self.backend.load(run.read_state("last", "float64")[0])

    def train(self) -> list[float]:
        """The losses of the scripts' steps."""
        rows = np.arange(NUM_STEPS * BATCH_SIZE)
        metrics = self.backend.train(Batches(self.corpus, rows, BATCH_SIZE), lambda step, loss: None)
        return list(map(float, metrics.step_losses))

    def translate(self, sentence: str) -> str:
        """The decoded text, without its "\\n"."""
        ids, lengths = self.vocabularies[0].encode([sentence], self.corpus.encoder_ids.shape[1])
        longest = max_decoded_length(self.corpus.decoder_input_ids.shape[1])
        return text_of(self.backend.translate(ids, lengths, longest)[0], self.vocabularies[1])

    def walk(self, sentence: str) -> Walk:
        """Through the encoder and, character by character, through the decoder."""
        encoder_vocabulary, decoder_vocabulary = self.vocabularies
        decoded = self.translate(sentence) + "\n"
        # Fed what was decoded, the decoder says again what it said when it decoded that.
        batch = self._batch([(sentence, decoded.removesuffix("\n"))])
        ids, _ = encoder_vocabulary.encode([sentence], self.corpus.encoder_ids.shape[1])
        forward = self.backend.forward(replace(batch, encoder_ids=ids))
        steps = []
        for fed, probabilities in zip("\t" + decoded[:-1], forward.probabilities[0], strict=False):
            best = np.argsort(-probabilities)[:BEST]
            steps.append(Step(fed, [(decoder_vocabulary.characters[i], float(probabilities[i])) for i in best]))
        assert "".join(step.best[0][0] for step in steps) == decoded
        vocabularies = encoder_vocabulary.characters, decoder_vocabulary.characters
        states = forward.state_h[0], forward.state_c[0]
        return Walk(sentence, decoded, ids[0].tolist(), *vocabularies, *states, steps)

    def _batch(self, pairs: list[tuple[str, str]]) -> Batch:
        return Batch.of_pairs(pairs, *self.vocabularies, "float64")

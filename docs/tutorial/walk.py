"""The numbers on the tutorial's pages, computed by the NumPy backend in float64: how one sentence
is translated, and the losses that the scripts print."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from backends import numpy_model
from backends.interface import Backend
from backends.process.translate_in_child import probabilities
from common.run import BUNDLED_RUN, RunDirectory
from common.settings import TrainConfig
from common.tensors import START, Batch, Batches, max_decoded_length

BATCH_SIZE, NUM_STEPS = 64, 10  # as in the scripts
BEST = 3  # number of characters shown at each step


@dataclass(frozen=True)
class Step:
    """A step of the decoder."""

    fed: str  # the character that it is given
    best: list[tuple[str, float]]  # the most probable characters, the first of which is decoded


@dataclass(frozen=True)
class Walk:
    """Every number between one sentence and its translation."""

    sentence: str
    decoded: str  # with its "\n"
    ids: list[int]  # of the sentence's characters, padding included
    vocabulary: tuple[str, ...]  # the encoder's
    decoder_vocabulary: tuple[str, ...]
    state_h: NDArray[np.floating]  # (H,)
    state_c: NDArray[np.floating]  # (H,)
    steps: list[Step]


class Reference:
    """The bundled run in the NumPy backend."""

    def __init__(self) -> None:
        run = RunDirectory.open(BUNDLED_RUN)
        self.vocabularies = run.vocabularies
        self.corpus = Batch.of_pairs(run.pairs(), *self.vocabularies, "float64")
        self.backend = Backend(
            numpy_model, replace(run.model_config, dtype="float64"), TrainConfig()
        )
        self.backend.load(run.read_state("last", "float64")[0])

    def train(self) -> list[float]:
        """The losses of the scripts' steps."""
        rows = np.arange(NUM_STEPS * BATCH_SIZE)
        metrics = self.backend.train(
            Batches(self.corpus, rows, BATCH_SIZE), lambda step, loss: None
        )
        return list(map(float, metrics.step_losses))

    def translate(self, sentence: str) -> str:
        """The decoded text, without its "\\n"."""
        return self.vocabularies[1].text_of(self._decode(*self._encode(sentence))[0])

    def walk(self, sentence: str) -> Walk:
        """Through the encoder and, character by character, through the decoder."""
        encoder_vocabulary, decoder_vocabulary = self.vocabularies
        ids, lengths = self._encode(sentence)
        decoded_ids = self._decode(ids, lengths)  # (1, L)
        outputs = self.backend.forward(Batch.of_ids(self.backend.config, ids, lengths, decoded_ids))
        (chances,) = probabilities(self.backend, ids, lengths, decoded_ids)  # (L, V_dec)
        decoded = decoder_vocabulary.decode(decoded_ids[0])
        characters = decoder_vocabulary.characters
        likeliest = np.argsort(-chances, kind="stable")[:, :BEST]
        steps = [
            Step(fed, [(characters[n], float(of_each[n])) for n in best])
            for fed, best, of_each in zip(START + decoded, likeliest, chances, strict=False)
        ]
        vocabularies = encoder_vocabulary.characters, decoder_vocabulary.characters
        states = outputs["state_h"][0], outputs["state_c"][0]
        return Walk(sentence, decoded, ids[0].tolist(), *vocabularies, *states, steps)

    def _encode(self, sentence: str) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        """Ids (1, T_enc) and length (1,)."""
        return self.vocabularies[0].encode([sentence], self.corpus.encoder_ids.shape[1])

    def _decode(
        self, ids: NDArray[np.integer], lengths: NDArray[np.integer]
    ) -> NDArray[np.integer]:
        """Ids (1, L), "\\n" included."""
        longest = max_decoded_length(self.corpus.decoder_input_ids.shape[1])
        return self.backend.translate(ids, lengths, longest)

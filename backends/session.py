"""What the commands do: a corpus or a run, a backend's process, and train, translate, evaluate, convert."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends import TABLE, find, of_run
from backends.process import SILENCE, BackendProcess, OnEvent
from common import decoding, native, training
from common.config import DataConfig, ModelConfig, TrainConfig
from common.corpus import Pair, normalize, read_corpus, references, split
from common.decoding import max_decoded_length, text_of
from common.errors import CannotBeginError, RosettaError, UnknownCharactersError
from common.files import new_folder
from common.load import fewer_threads
from common.run_directory import RunDirectory, refuse_existing
from common.scoring import score
from common.tensors import START, STOP, Batch, model_config
from common.vocabulary import PAD, CharVocabulary
from common.weights import initial_state

SECONDS_A_ROW = 0.2  # of those that are gone through without a sign of life: several times what 1,024 units need
SECONDS_A_SENTENCE = 60.0  # far more than the slowest way of decoding needs

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Runtime:
    """Where and with what a backend runs; changes no mathematics."""

    threads: int | None = None  # None: all cores
    device: str = "cpu"
    lane: str = "matched"
    python: str | None = None  # the interpreter; None: this one

    def start(self, backend: str, model: ModelConfig, train: TrainConfig) -> BackendProcess:
        return BackendProcess(
            backend,
            model,
            train,
            threads=self.threads,
            device=self.device,
            lane=self.lane,
            python=self.python,
        )


CONVERTING = Runtime(threads=1)  # nothing is computed


def silence(rows: int) -> float:
    """Seconds that a process may need to go through so many rows; it may say nothing meanwhile."""
    return SILENCE + SECONDS_A_ROW * rows


@dataclass(frozen=True)
class Material:
    """Sentence pairs made ready for a model."""

    pairs: Sequence[Pair]
    encoder_vocabulary: CharVocabulary
    decoder_vocabulary: CharVocabulary
    batch: Batch  # all of the pairs
    training_rows: NDArray[np.int64]
    validation_rows: NDArray[np.int64]

    @classmethod
    def of_pairs(
        cls, pairs: Sequence[Pair], config: DataConfig, seed: int, dtype: str, padding: str = "space"
    ) -> "Material":
        encoder_vocabulary = CharVocabulary.of(source for source, _ in pairs)
        decoder_vocabulary = CharVocabulary.of([START, STOP, *(target for _, target in pairs)])
        batch = Batch.of_pairs(pairs, encoder_vocabulary, decoder_vocabulary, dtype, padding)
        return cls(pairs, encoder_vocabulary, decoder_vocabulary, batch, *split(pairs, config, seed))

    @classmethod
    def of_run(cls, run: RunDirectory) -> "Material":
        """The pairs of a run; they give the same vocabularies and split as when it was begun."""
        pairs = run.pairs()
        encoder_vocabulary, decoder_vocabulary = run.vocabularies()
        model = run.model_config
        batch = Batch.of_pairs(pairs, encoder_vocabulary, decoder_vocabulary, model.dtype, model.padding)
        rows = split(pairs, run.data_config, run.train_config.seed)
        return cls(pairs, encoder_vocabulary, decoder_vocabulary, batch, *rows)

    @property
    def max_encoder_seq_length(self) -> int:
        """T_enc"""
        return int(self.batch.encoder_ids.shape[1])

    @property
    def max_decoder_seq_length(self) -> int:
        """T_dec, "\\t" and "\\n" counted"""
        return int(self.batch.decoder_input_ids.shape[1])


@dataclass(frozen=True)
class Translator:
    """Translates with a backend whose weights are loaded, padding every sentence as in training."""

    process: BackendProcess
    material: Material

    def __call__(
        self,
        texts: Sequence[str],
        unknown: str = "error",
        warn: Warn | None = None,
        on_event: OnEvent | None = None,
    ) -> list[str]:
        """A translation a text, in order; an empty one for a blank one.

        Raises UnknownCharactersError, whose `row` is an index of `texts`, unless `unknown` is "drop".
        """
        vocabulary, longest = self.material.encoder_vocabulary, self.material.max_encoder_seq_length
        texts = [normalize(text) for text in texts]
        if unknown == "drop":
            texts = [vocabulary.without_unknown(text) for text in texts]
        ids, lengths = vocabulary.encode(texts, longest)
        translations = ["" for _ in texts]
        rows_of_width: dict[int, list[int]] = {}
        for row, text in enumerate(texts):
            if not text.strip():
                continue
            if len(text) > longest and warn:
                warn(f"{text!r} has {len(text)} characters, training none of more than {longest}: expect little")
            # Padded further than in training, a sentence translates differently: long ones go by themselves.
            rows_of_width.setdefault(max(len(text), longest), []).append(row)
        for width, rows in rows_of_width.items():
            decoded = self._decode(ids[rows, :width], lengths[rows], on_event)
            for row, decoded_ids in zip(rows, decoded, strict=True):
                translations[row] = text_of(decoded_ids, self.material.decoder_vocabulary)
        return translations

    def _decode(
        self, ids: NDArray[np.integer], lengths: NDArray[np.integer], on_event: OnEvent | None
    ) -> NDArray[np.integer]:
        return self.process.listening(on_event, SILENCE + SECONDS_A_SENTENCE * len(ids)).call(
            decoding.translate,
            encoder_ids=ids,
            encoder_lengths=lengths,
            max_length=max_decoded_length(self.material.max_decoder_seq_length),
        )


@dataclass(frozen=True)
class Sample:
    """A pair of the corpus and what the model makes of it."""

    split: str  # "training" or "validation"
    source: str
    reference: str
    translation: str


@dataclass(frozen=True)
class Trained:
    """A run that was trained: its last epoch is the last of `run.history()`."""

    run: RunDirectory
    backend: str
    samples: list[Sample]


def prepare(config: DataConfig, seed: int, dtype: str, padding: str = "space") -> tuple[Material, str]:
    """Read and encode a corpus; with its SHA-256."""
    corpus = read_corpus(config)
    return Material.of_pairs(corpus.pairs, config, seed, dtype, padding), corpus.sha256


def train(
    backend: str,
    data: DataConfig,
    settings: TrainConfig,
    latent_dim: int,
    dtype: str,
    padding: str,
    epochs: int,
    out: Path,
    runtime: Runtime,
    on_event: OnEvent,
) -> Trained:
    """Begin a run and train it."""
    find(backend)
    refuse_existing(out)
    material, sha256 = prepare(data, settings.seed, dtype, padding)
    model = model_config(material.batch, material.decoder_vocabulary, latent_dim, dtype)
    with runtime.start(backend, model, settings) as process:
        run = RunDirectory.create(
            out,
            backend,
            (model, settings, data),
            sha256,
            material.pairs,
            (material.encoder_vocabulary, material.decoder_vocabulary),
            initial_state(model, settings.seed),
        )
        return _fit(process, run, material, epochs, on_event)


def resume(
    run: RunDirectory,
    backend: str | None,
    epochs: int,
    runtime: Runtime,
    on_event: OnEvent,
    learning_rate: float | None = None,
) -> Trained:
    """Train a run on until it has `epochs` epochs, in its own backend or another, at its own rate or another.

    Another `learning_rate` becomes the run's own before training goes on.
    """
    find(backend or run.backend)
    done = run.read_state("last")[1].epoch
    if done >= epochs:
        raise CannotBeginError(f"{run.path} has {done} epochs already; --epochs is the total to reach")
    material = Material.of_run(run)
    if learning_rate is not None:
        run = run.with_learning_rate(learning_rate)
    with runtime.start(backend or run.backend, run.model_config, run.train_config) as process:
        return _fit(process, run, material, epochs, on_event)


def _fit(process: BackendProcess, run: RunDirectory, material: Material, epochs: int, on_event: OnEvent) -> Trained:
    if advice := fewer_threads(process.facts.threads, process.pid):
        on_event({"warning": advice})
    process.listening(on_event, silence(len(material.pairs))).call(
        training.fit,
        run=str(run.path.resolve()),
        epochs=epochs,
        corpus=material.batch,
        training_rows=material.training_rows,
        validation_rows=material.validation_rows,
    )
    return Trained(run, process.name, _samples(Translator(process, material), on_event))


def _samples(translator: Translator, on_event: OnEvent) -> list[Sample]:
    """Ten pairs of training and ten of validation, as the example ends by showing."""
    material = translator.material
    chosen = [("training", row) for row in material.training_rows[:10]]
    chosen += [("validation", row) for row in material.validation_rows[:10]]
    pairs = [material.pairs[row] for _, row in chosen]
    translations = translator([source for source, _ in pairs], on_event=on_event)
    return [
        Sample(side, source, target, translation)
        for (side, _), (source, target), translation in zip(chosen, pairs, translations, strict=True)
    ]


@contextmanager
def open_translator(
    run: RunDirectory, backend: str | None, weights: str, dtype: str | None, runtime: Runtime
) -> Iterator[Translator]:
    """A translator with the `last` or `best` weights of a run, in any backend and precision.

    Without `backend`, in the run's own where it is installed, else in another.
    """
    backend = backend or of_run(run.backend)
    find(backend)
    run.read_state(weights)
    material = Material.of_run(run)
    model = replace(run.model_config, dtype=dtype or run.model_config.dtype)
    with runtime.start(backend, model, run.train_config) as process:
        process.call(training.load_run, run=str(run.path.resolve()), weights=weights)
        yield Translator(process, replace(material, batch=replace(material.batch, dtype=model.dtype)))


def translate_lines(
    translator: Translator, chunks: Iterable[Sequence[str]], unknown: str, warn: Warn
) -> Iterator[list[Pair]]:
    """Sources and translations, a list for each chunk of lines.

    Before it raises UnknownCharactersError, the lines in front of the one at fault are given out.
    """
    for chunk in chunks:
        try:
            yield list(zip(chunk, translator(chunk, unknown, warn), strict=True))
        except UnknownCharactersError as error:
            if error.row:
                before = chunk[: error.row]
                yield list(zip(before, translator(before, unknown, warn), strict=True))
            raise


def describe_backends(runtime: Runtime) -> dict[str, dict[str, Any]]:
    """What each backend of the table reports of itself, or what is `missing`."""
    model = ModelConfig(num_encoder_tokens=2, num_decoder_tokens=3, start_token=0, stop_token=1, latent_dim=4)
    found: dict[str, dict[str, Any]] = {}
    for name in TABLE:
        try:
            with runtime.start(name, model, TrainConfig()) as process:
                found[name] = asdict(process.facts)
        except RosettaError as error:  # not there, or there and broken
            found[name] = {"missing": str(error)}
    return found


def evaluate(translator: Translator, batch_size: int, limit: int | None, on_event: OnEvent) -> dict[str, Any]:
    """Scores over the validation rows, or the first `limit` of them.

    One translation a distinct source, against all of its references in the corpus.
    """
    material = translator.material
    rows = material.validation_rows[:limit]
    batch = material.batch.take(rows)
    evaluating = translator.process.listening(silence=silence(len(batch)))
    figures = evaluating.call(training.evaluate, batch_size=batch_size, corpus=batch)
    is_space = batch.decoder_target_ids == material.decoder_vocabulary.id_of[PAD]
    always_space = (is_space * batch.target_weights).sum() / batch.target_weights.sum()
    sources = list(dict.fromkeys(material.pairs[row][0] for row in rows))
    all_references = references(material.pairs)
    translations = translator(sources, on_event=on_event)
    scores = score(translations, [all_references[source] for source in sources])
    return {**figures, "accuracy_always_space": float(always_space), "rows": len(rows)} | scores


def export_native(run: RunDirectory, weights: str, backend: str, out: Path) -> list[str]:
    """Write the `last` or `best` weights of a run into the folder `out` as a backend's framework keeps them.

    Returns the names of the files.
    """
    find(backend)
    refuse_existing(out, "choose another --out")
    run.read_state(weights)
    with (
        new_folder(out) as folder,
        CONVERTING.start(backend, run.model_config, run.train_config) as process,
    ):
        return process.call(native.save, run=str(run.path), weights=weights, folder=str(folder))


@dataclass(frozen=True)
class Setting:
    """What makes a run of a state that comes without it: the files of frameworks hold no vocabulary."""

    configs: tuple[ModelConfig, TrainConfig, DataConfig]
    sha256: str
    pairs: Sequence[Pair]
    vocabularies: tuple[CharVocabulary, CharVocabulary]

    @classmethod
    def of_corpus(cls, data: DataConfig, settings: TrainConfig, latent_dim: int, dtype: str) -> "Setting":
        """That of a run which `train` begins."""
        material, sha256 = prepare(data, settings.seed, dtype)
        model = model_config(material.batch, material.decoder_vocabulary, latent_dim, dtype)
        vocabularies = material.encoder_vocabulary, material.decoder_vocabulary
        return cls((model, settings, data), sha256, material.pairs, vocabularies)

    @classmethod
    def of_run(cls, path: Path) -> "Setting":
        """That of a run, named by its folder or its vocabulary.json."""
        run = RunDirectory.open(path.parent if path.name == "vocabulary.json" else path)
        configs = run.model_config, run.train_config, run.data_config
        return cls(configs, run.sha256, run.pairs(), run.vocabularies())


def import_native(paths: Sequence[Path], backend: str, setting: Setting, out: Path) -> RunDirectory:
    """Begin a run with the weights and slots that files of a backend's framework hold; it has no epoch yet."""
    find(backend)
    refuse_existing(out, "choose another name for the run")
    model, train, _ = setting.configs
    with CONVERTING.start(backend, model, train) as process:
        state = process.call(native.load, paths=[str(path) for path in paths])
    return RunDirectory.create(
        out, backend, setting.configs, setting.sha256, setting.pairs, setting.vocabularies, state
    )

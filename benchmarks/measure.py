"""The comparison: every backend trained from the same weights on the same batches, then decoding the same text."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from backends import find
from backends.session import SECONDS_A_SENTENCE, TRAINING_SILENCE, Material, Runtime, prepare
from benchmarks.results import BASELINE, Decoded, Results, Row
from common.config import DataConfig, ModelConfig, TrainConfig
from common.corpus import references
from common.decoding import max_decoded_length, text_of
from common.machine import describe_machine
from common.tensors import model_config

SHOWN_SENTENCES = 10
DECODED_SENTENCES = 500  # in one batch; the baseline, at seconds a sentence, decodes the shown ones alone

Progress = Callable[[str], AbstractContextManager[Callable[[Mapping[str, Any]], None]]]


def compare(
    backends: Sequence[str],
    data: DataConfig,
    settings: TrainConfig,
    latent_dim: int,
    epochs: int,
    runtime: Runtime,
    path: Path,
    certificates: Mapping[str, Any],
    progress: Progress,
) -> Results:
    """Measure one backend after another, each in a process of its own, and save to `path` after each.

    `certificates` are those of `rosetta parity`, by name and precision; a row takes the one of its version.
    """
    for name in backends:
        find(name)
    material, sha256 = prepare(data, settings.seed, "float32")
    model = model_config(material.batch, material.decoder_vocabulary, latent_dim, "float32")
    sources = _validation_sources(material)
    all_references = references(material.pairs)
    decoded = [Decoded(source, all_references[source], {}) for source in sources[:SHOWN_SENTENCES]]
    results = Results(describe_machine(), sha256, data, settings, epochs, [], decoded)
    for name in backends:
        with progress(name) as on_event:
            row, translations = _measure(name, model, settings, epochs, material, sources, runtime, on_event)
        results.rows.append(replace(row, certificate=_certificate(row, certificates)))
        for sentence, translation in zip(decoded, translations, strict=False):
            sentence.translations[name] = translation
        results.save(path)
    return results


def _certificate(row: Row, certificates: Mapping[str, Any]) -> dict[str, Any] | None:
    found = certificates.get(f"{row.name} float32")
    return found if isinstance(found, dict) and found.get("version") == row.version else None


def _validation_sources(material: Material) -> list[str]:
    """Distinct sources of the validation rows, spread over all of them: those rows may be sorted by length."""
    sources = list(dict.fromkeys(material.pairs[row][0] for row in material.validation_rows))
    stride = max(1, len(sources) // SHOWN_SENTENCES)
    shown = sources[::stride][:SHOWN_SENTENCES]
    return (shown + [source for source in sources if source not in shown])[:DECODED_SENTENCES]


def _measure(
    name: str,
    model: ModelConfig,
    settings: TrainConfig,
    epochs: int,
    material: Material,
    sources: Sequence[str],
    runtime: Runtime,
    on_event: Callable[[Mapping[str, Any]], None],
) -> tuple[Row, list[str]]:
    if name == BASELINE:
        sources = sources[:SHOWN_SENTENCES]
    encoder_ids, encoder_lengths = material.encoder_vocabulary.encode(sources, material.max_encoder_seq_length)
    with runtime.start(name, model, settings) as process:
        trained = process.call(
            "benchmarks.scenarios:train",
            TRAINING_SILENCE,
            on_event,
            epochs=epochs,
            batch_size=settings.batch_size,
            seed=settings.seed,
            training_rows=material.training_rows,
            validation_rows=material.validation_rows,
            **material.batch.fields(),
        )["epochs"]
        decoding = process.call(
            "benchmarks.scenarios:decode",
            TRAINING_SILENCE + SECONDS_A_SENTENCE * len(sources),
            encoder_ids=encoder_ids,
            encoder_lengths=encoder_lengths,
            max_length=max_decoded_length(material.max_decoder_seq_length),
            warm_up_rows=1 if name == BASELINE else len(sources),
        )
    # The first epoch compiles; it counts only where there is no other.
    seconds = median(epoch["seconds"] for epoch in trained[1:] or trained)
    backend, _, variant = name.partition(":")
    last = trained[-1]
    row = Row(
        backend=backend,
        variant=variant,
        version=process.facts["version"],
        threads=process.facts["threads"],
        train_seconds_per_epoch=seconds,
        train_samples_per_second=last["samples"] / seconds,
        loss=last["loss"],
        val_loss=last["val_loss"],
        val_accuracy=last["val_accuracy"],
        val_accuracy_real=last["val_accuracy_real"],
        decode_sentences=len(sources),
        decode_sentences_per_second=len(sources) / decoding["seconds"],
        facts=dict(process.facts),
        certificate=None,
        epochs=trained,
    )
    return row, [text_of(ids, material.decoder_vocabulary) for ids in decoding["ids"]]

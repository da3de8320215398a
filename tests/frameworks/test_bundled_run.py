"""The run that is bundled: what it holds, how good it is, and how a sentence comes to it."""

from functools import partial

import pytest

from backends import TABLE, of_run
from backends.commands.translate import _run_and_texts
from backends.process.parent import Runtime
from backends.process.translating import launch, translations
from common.corpus import Material, read_corpus
from common.run import BUNDLED_RUN, RunDirectory
from common.settings import DataConfig
from common.sources import Sources
from docs.phrasebook.visitors import carelessly, held_out, judged, visitors
from tests.support.program import answer, refusal

RUNTIME = Runtime(threads=1)
SENTENCE, TRANSLATION = "I love you!", "Je t'aime\u202f!"


@pytest.fixture(scope="module")
def run() -> RunDirectory:
    return RunDirectory.open(BUNDLED_RUN)


def test_it_is_the_examples_model_of_the_phrasebook_and_small(run) -> None:
    corpus = read_corpus(DataConfig())
    assert (run.sha256, run.pairs()) == (corpus.sha256, corpus.pairs), "run `make pretrained`"
    assert run.data_config == DataConfig(split="grouped")
    assert (run.model_config.latent_dim, run.model_config.padding) == (256, "space")
    data = Material.of_corpus(corpus, run.data_config, run.train_config.seed, "float32")
    read = run.material()
    for side in ("encoder_vocabulary", "decoder_vocabulary"):
        assert getattr(data, side).characters == getattr(read, side).characters
    assert sum(path.stat().st_size for path in BUNDLED_RUN.iterdir()) < 4e6


def test_it_translates_visitors_sentences_and_flags_most_errors(run, here) -> None:
    sources, known, unseen = Sources.of_run(run), visitors(), held_out(run)
    assert len(known) == 150
    sample = {text: unseen[text] for text in list(unseen)[::4]}
    with launch(run, "last", RUNTIME, "numpy") as process:
        for least, texts, right in (
            (115, list(known), known),
            (115, carelessly(known), known),
            (0.08 * len(sample), list(sample), sample),
        ):
            judgements = list(judged(partial(translations, process), sources, texts, right))
            good, bad = (
                [bool(judgement.doubt) for judgement in judgements if judgement.right == whether]
                for whether in (True, False)
            )
            assert len(good) >= least, [
                judgement for judgement in judgements if not judgement.right
            ]
            assert sum(good) <= 0.1 * len(good)
            assert sum(bad) >= 0.8 * len(bad)


def test_a_sentence_without_a_run_is_translated_by_it(here) -> None:
    """A text that is no path is a sentence too, and what looks like a path is none."""
    expected = {
        "backend": "numpy",
        "translations": [{"source": SENTENCE, "translation": TRANSLATION}],
    }
    assert answer("translate", SENTENCE, "--backend", "numpy") == expected
    for arguments in (
        ["translate", "--backend", "numpy"],
        ["translate", BUNDLED_RUN, "--backend", "numpy"],
    ):
        assert answer(*arguments, stdin=SENTENCE.encode()) == expected
    assert answer("evaluate", "--backend", "numpy", "--limit", 5)["run"] == str(BUNDLED_RUN)
    for text in ("", "x" * 300, "He is 1/2 there."):
        assert _run_and_texts([text]) == (None, [text])
    assert "runs/none is not a run" in refusal(2, "translate", "runs/none", SENTENCE)


def test_a_missing_backend_is_replaced_by_an_installed_one(run, here, monkeypatch) -> None:
    assert run.backend in TABLE
    there = ["numpy", "paddle"]
    monkeypatch.setattr("backends.installed", lambda: there)
    assert of_run(run.backend) == "paddle"
    there.remove("paddle")
    with launch(run, "last", RUNTIME) as process:
        assert process.name == "numpy"

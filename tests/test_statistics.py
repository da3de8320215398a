"""What a corpus is like, at any size."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from backends.process.parent import PROJECT
from common.config import DataConfig
from common.corpus import Corpus, read_corpus
from common.statistics import corpus_statistics
from common.tensors import Batch
from common.vocabulary import CharVocabulary

# Prints the peak memory in bytes of the command in its arguments, whose output goes to standard error.
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=sys.stderr, check=True)
unit = 1 if sys.platform == "darwin" else 1024
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit)
"""


def test_figures_are_those_of_the_tensors() -> None:
    pairs = [("Go.", "Va !"), ("Go.", "Bouge !"), ("Run!", "Cours !"), ("Go.", "Va !"), ("犬", "x")]
    encoder, decoder = CharVocabulary.of(s for s, _ in pairs), CharVocabulary.of(f"\t{t}\n" for _, t in pairs)
    batch = Batch.of_pairs(pairs, encoder, decoder)
    tensors = batch.encoder_input_data, batch.decoder_input_data, batch.decoder_target_data
    assert corpus_statistics(Corpus(pairs, "ab" * 32, skipped_lines=3)) == {
        "num_samples": 5,
        "num_encoder_tokens": len(encoder),
        "num_decoder_tokens": len(decoder),
        "max_encoder_seq_length": tensors[0].shape[1],
        "max_decoder_seq_length": tensors[1].shape[1],
        "distinct_sources": 3,
        "duplicates": 1,
        "padding": pytest.approx(1 - float(batch.real_positions.mean(dtype="float64"))),
        "one_hot_bytes": sum(tensor.nbytes for tensor in tensors),
        "skipped_lines": 3,
        "sha256": "ab" * 32,
        "pairs": [{"source": source, "target": target} for source, target in pairs],
    }


@pytest.mark.parametrize(
    ("count", "shown"), [(1, [0]), (2, [0, 1]), (5, [0, 1, 2, 3, 4]), (101, [0, 25, 50, 75, 100])]
)
def test_the_pairs_shown_are_spread_over_the_corpus(count: int, shown: list[int]) -> None:
    figures = corpus_statistics(Corpus([(f"source {row}", f"target {row}") for row in range(count)], ""))
    assert figures["pairs"] == [{"source": f"source {row}", "target": f"target {row}"} for row in shown]


def test_200000_pairs_take_less_than_500_mib(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    num_pairs = 200_000
    with path.open("w", encoding="utf-8") as file:
        for i in range(num_pairs):
            file.write(f"Sentence number {i} is as long as most.\tLa phrase numéro {i} est assez longue.\tCC-BY\n")
    command = ["-m", "rosetta", "data", "--data", str(path), "--num-samples", str(num_pairs), "--json"]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, sys.executable, *command],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stderr)
    assert figures["num_samples"] == figures["distinct_sources"] == num_pairs
    assert figures["sha256"] == read_corpus(DataConfig(str(path), num_samples=1)).sha256
    assert figures["one_hot_bytes"] > 1 << 30  # the tensors alone would not fit
    assert int(done.stdout) < 500 << 20

"""The tutorial: its scripts held to the backends, its pages to their generator, and both looked at in a browser."""

import ast
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from backends.environment import child_environment
from backends.process import PROJECT, BackendProcess
from benchmarks.ladder import packed
from common.config import TrainConfig
from common.decoding import max_decoded_length, text_of
from common.run_directory import BUNDLED_RUN, RunDirectory
from common.tensors import Batch
from tests.conftest import FRAMEWORKS

TUTORIAL = PROJECT / "docs" / "tutorial"
BATCH_SIZE, NUM_STEPS = 64, 10
TOLERANCE = 1e-10  # relative, of a loss
BLOCKS = ["Read and encode", "Model", "Load weights", "Loss and step", "Save", "Decode"]
# A trap that a script's comments name, undone.
TRAPS = {
    "a constant is not rounded": ("keras", "float(np.float32(x))", "x"),
    "epsilon is outside the root": ("torch", '(v + group["eps"]).sqrt()', 'v.sqrt() + group["eps"]'),
    "both biases are trained in torch": ("torch", ".requires_grad_(False)", ""),
    "both biases are trained in Paddle": ("paddle", "parameters=trained", "parameters=model.parameters()"),
}

frameworks = pytest.mark.parametrize("name", FRAMEWORKS)


@dataclass(frozen=True)
class Outcome:
    """What a script prints."""

    losses: list[float]  # of each step
    translations: dict[str, str]  # after the last one


def script(name: str) -> Path:
    return TUTORIAL / f"{name}_seq2seq.py"


def outcome(path: Path, run: Path, out: Path) -> Outcome:
    """Of a script in a process of its own, in float64 on one thread."""
    environment = child_environment("matched", 1, "cpu") | {"PYTHONUTF8": "1"}
    command = [sys.executable, path, run, out, "--dtype", "float64"]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    losses = re.findall(r"^step \d+: loss (\S+)$", done.stdout, re.MULTILINE)
    translations = dict(line.split(" -> ") for line in done.stdout.splitlines() if " -> " in line)
    return Outcome(list(map(float, losses)), translations)


@cache
def original(name: str, tmp: Path) -> Outcome:
    return outcome(script(name), BUNDLED_RUN, tmp / name)


@cache
def expected(name: str, texts: tuple[str, ...]) -> Outcome:
    """The same of a backend."""
    run = RunDirectory.open(BUNDLED_RUN)
    encoder_vocabulary, decoder_vocabulary = run.vocabularies()
    corpus = Batch.of_pairs(run.pairs(), encoder_vocabulary, decoder_vocabulary, "float64")
    rows = corpus.take(slice(NUM_STEPS * BATCH_SIZE))
    state, _ = run.read_state("last", "float64")
    ids, lengths = encoder_vocabulary.encode(texts, corpus.encoder_ids.shape[1])
    longest = max_decoded_length(corpus.decoder_input_ids.shape[1])
    with BackendProcess(name, replace(run.model_config, dtype="float64"), TrainConfig(), threads=1) as process:
        trained = process.call("tests.child:steps", 300, state=packed(state), batch_size=BATCH_SIZE, **rows.fields())
        decoded = process.call(
            "common.decoding:translate", 60, encoder_ids=ids, encoder_lengths=lengths, max_length=longest
        )
    translations = [text_of(row, decoder_vocabulary) for row in decoded["ids"]]
    return Outcome(list(trained["losses"]), dict(zip(texts, translations, strict=True)))


def agree(got: Outcome, wanted: Outcome) -> bool:
    losses = np.array(got.losses), np.array(wanted.losses)
    same_shape = losses[0].shape == losses[1].shape == (NUM_STEPS,)
    return same_shape and np.allclose(*losses, rtol=TOLERANCE, atol=0) and got.translations == wanted.translations


@pytest.fixture(scope="module")
def tmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tutorial")


@frameworks
def test_a_script_gives_the_backends_losses_and_translations(name: str, tmp: Path) -> None:
    got = original(name, tmp)
    assert len(set(got.translations.values())) == 3
    wanted = expected(name, tuple(got.translations))
    assert got.translations == wanted.translations
    assert got.losses == pytest.approx(wanted.losses, rel=TOLERANCE, abs=0)
    assert agree(got, wanted)
    assert any((tmp / name).iterdir())


@frameworks
def test_a_weight_that_is_a_little_off_is_seen(name: str, tmp: Path, tmp_path: Path) -> None:
    weights = load_file(BUNDLED_RUN / "state.safetensors")
    weights["encoder/recurrent_kernel"][3, 5] += 1e-4
    save_file(weights, tmp_path / "state.safetensors")
    (tmp_path / "pairs.tsv").write_bytes((BUNDLED_RUN / "pairs.tsv").read_bytes())
    texts = tuple(original(name, tmp).translations)
    assert not agree(outcome(script(name), tmp_path, tmp_path / "out"), expected(name, texts))


@pytest.mark.parametrize("trap", TRAPS)
def test_what_a_comment_warns_of_would_be_seen(trap: str, tmp: Path, tmp_path: Path) -> None:
    name, right, wrong = TRAPS[trap]
    source = script(name).read_text(encoding="utf-8")
    assert source.count(right) == 1
    (tmp_path / "wrong.py").write_text(source.replace(right, wrong), encoding="utf-8")
    texts = tuple(original(name, tmp).translations)
    got = outcome(tmp_path / "wrong.py", BUNDLED_RUN, tmp_path / "out")
    assert len(got.losses) == NUM_STEPS
    assert not agree(got, expected(name, texts))


@frameworks
def test_a_script_imports_nothing_of_ours(name: str) -> None:
    allowed = {"argparse", "pathlib", "numpy", "safetensors", name}
    tree = ast.parse(script(name).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {module.partition(".")[0] for module in imported} == allowed


@frameworks
def test_a_script_has_the_blocks_and_is_short(name: str) -> None:
    lines = script(name).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if re.match(r"# \d", line)] == [
        f"# {number}. {title}" for number, title in enumerate(BLOCKS, 1)
    ]
    assert sum(bool(line.strip()) for line in lines) <= 100

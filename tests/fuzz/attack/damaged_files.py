"""Damages corpora, runs, recordings and the frameworks' own files; each is read or refused.

Only what damages PyTorch's and Keras's files loads a framework. Weights, pairs and vocabularies in which a bit has
changed must all be refused, or be read as they were.
"""

import json
import pickle
import random
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import chain
from pathlib import Path
from unittest.mock import patch

from backends.native.paddle import NAME_TABLE, read_paddle
from backends.process.parent import BackendProcess, Runtime
from benchmarks import commands
from benchmarks.measure.recording import Recording
from benchmarks.report import page, render
from common.corpus import read_corpus
from common.errors import RosettaError
from common.run import RunDirectory
from common.settings import DataConfig, ModelConfig, TrainConfig
from common.text import LONGEST_LINE, LONGEST_SENTENCE, PIECE, lines_as_they_arrive
from common.weights import ModelState, initial_state
from tests.fuzz.attack.damage_bytes import bit_flipped, damaged_file, layer_tensors, zipped
from tests.fuzz.attack.limits import Target, inputs
from tests.support import child, small_run
from tests.support.recordings import COMMITTED, RACING, committed

MODEL = ModelConfig(7, 9, 0, 1, latent_dim=3)
STATE = initial_state(MODEL, 5)
ENDLESS_SECONDS = 10.0  # timeout of reading a file
LINES = b"".join(b"%d\t%d\xc3\xa9\n" % (i, i * i) for i in range(100))


@dataclass(frozen=True)
class Victim:
    """Files in a folder, each damaged in turn, after each has been read whole."""

    write: Callable[[Path], object]  # makes the folder
    read: Callable[[Path], object]  # reads the file that is damaged
    files: str = "*"  # pattern of the files to damage
    damage: Callable[[str, bytes, random.Random], bytes] = damaged_file  # of a name and content


def damaging(victims: Mapping[str, Victim], rng: random.Random, folder: Path) -> Iterator[str]:
    def copied(file: Path, victim: Victim, rng: random.Random | None = None) -> Path:
        """Copy the folder of a victim, damage the file in it, and return the path of the damaged file."""
        shutil.rmtree(folder / "copy", ignore_errors=True)  # some file systems wait where a file is overwritten
        copy = Path(shutil.copytree(folder / "whole" / file.parts[0], folder / "copy"), *file.parts[1:])
        if rng:
            content = copy.read_bytes()
            copy.unlink()
            copy.write_bytes(victim.damage(copy.name, content, rng))
        return copy

    (folder / "whole").mkdir()
    targets = {}
    with patch("os.fsync"):  # which takes longer than all the rest
        for name, victim in victims.items():
            victim.write(whole := folder / "whole" / name)
            for path in sorted(path for path in whole.glob(victim.files) if path.is_file()):
                file = path.relative_to(folder / "whole")
                victim.read(copied(file, victim))
                targets[f"{path.name} of {name}"] = Target(partial(copied, file, victim), victim.read)
        yield from inputs(targets, rng)


def files_of(contents: Mapping[str, bytes], folder: Path) -> None:
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)


# Corpora and texts


def of_corpus(path: Path) -> None:
    for side in chain.from_iterable(read_corpus(DataConfig(str(path), 50, skip_bad_lines=True)).pairs):
        assert 0 < len(side) <= LONGEST_SENTENCE
        assert not set(side) & {"\t", "\n"}
        side.encode()


def of_lines(path: Path) -> None:
    """Read the lines of a text as `translate --file` does."""
    with path.open("rb") as file:
        lines = list(chain.from_iterable(lines_as_they_arrive(file)))
    assert all(len(line) <= LONGEST_LINE + PIECE + 2 and "\n" not in line for line in lines)


# Frameworks' own files, of MODEL with STATE


def paddle_files(folder: Path) -> None:
    tensors = layer_tensors(STATE.weights)
    tensors[NAME_TABLE] = {name: name for name in tensors}
    files_of({f"protocol-{number}.pdparams": pickle.dumps(tensors, number) for number in (2, 4)}, folder)


# Runs


def run_of(folder: Path) -> None:
    """Three epochs."""
    small_run.write(small_run.create(folder), [3.0, 1.0, 2.0])


def unchecked(function: Callable[[Path], object]) -> Callable[[Path], object]:
    """The function without checksums of a state and of texts, which would find damage before it is looked at."""
    return patch("common.weights._crc32", lambda *of: None)(
        patch("hashlib.file_digest", lambda *of: sha256())(function)
    )


def of_run(path: Path) -> None:
    """Read all that commands read of a run."""
    run = RunDirectory.open(path.parent)
    run.material()
    run.history()
    for which in ("last", "best"):
        run.read_state(which)
    run.write_weights("best", path.parent.with_name("weights"))
    shutil.rmtree(path.parent.with_name("weights"))
    run.begin()


def as_it_was(path: Path) -> None:
    """Fail unless the run is read as it was, or refused by the one message of damaged files of ours."""
    try:
        of_run(path)
    except RosettaError as error:
        if " is damaged: " not in str(error):
            raise AssertionError(str(error)) from error
        raise
    run = RunDirectory.open(path.parent)
    assert run.pairs() == small_run.PAIRS
    small_run.assert_state(run, "last", 3)
    small_run.assert_state(run, "best", 2)


# Recordings


def short_recordings(folder: Path) -> None:
    """Write committed recordings with two cycles a round; of a benchmark and of a race two rounds."""
    contents = {}
    for path in (
        COMMITTED / "demo.jsonl",
        RACING / "threads.jsonl",
    ):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for line in lines:
            if line["kind"] == "round":
                line["cycles"] = line["cycles"][:2]
        kept = [line for line in lines if line.get("number", 0) < 3]
        contents[path.name] = "".join(json.dumps(line) + "\n" for line in kept).encode()
    files_of(contents, folder)


def reported(path: Path) -> str:
    """Make all that a report makes of a recording."""
    report = commands.report_of([path])
    return render.html(report.page, report.charts) + render.markdown(report.page) + report.summary


def of_recording(path: Path) -> None:
    assert "<!doctype html>" in reported(path)


def of_recording_and_another(path: Path) -> None:
    """Put the recording and another one on one page."""
    damaged, whole = Recording.read(path), committed("demo")
    both = page.machines([("damaged", damaged), ("whole", whole)]).page
    render.html(both, {}), render.markdown(both)


TEXTS = {"pairs.txt": LINES, "pairs.zip": zipped({"_about.txt": b"", "fra.txt": LINES})}
FILES = {
    "a corpus": Victim(partial(files_of, TEXTS), of_corpus),
    "sentences": Victim(partial(files_of, {"lines.txt": LINES}), of_lines),
    "Paddle": Victim(paddle_files, lambda path: read_paddle([path], MODEL)),
    "a run": Victim(unchecked(run_of), unchecked(of_run)),
    # But of config.json and machine.json, where a bit may say something else.
    "a run, by a bit": Victim(run_of, as_it_was, "[!cm]*", bit_flipped),
}
RECORDINGS = {
    "a report": Victim(short_recordings, of_recording),
    "a comparison": Victim(short_recordings, of_recording_and_another, "demo.jsonl"),
}
files = partial(damaging, FILES)
recordings = partial(damaging, RECORDINGS)


def torch_files(rng: random.Random, folder: Path) -> Iterator[str]:
    """A model's file in both formats of PyTorch, and its optimizer's."""
    import torch

    from backends.native.torch import read_torch

    warnings.filterwarnings("ignore", "Detected pickle protocol")  # by torch, of what it then refuses
    arrays = layer_tensors(STATE.weights)  # which torch names alike
    arrays["dense.weight"] = arrays["dense.weight"].T
    tensors = {name: torch.tensor(array) for name, array in arrays.items()}
    trained = [tensor for name, tensor in tensors.items() if not name.endswith("bias_hh_l0")]
    slots = {number: {"step": torch.tensor(3.0), "square_avg": tensor.abs()} for number, tensor in enumerate(trained)}

    def write(folder: Path) -> None:
        folder.mkdir()
        torch.save(tensors, folder / "model.pt")
        torch.save(tensors, folder / "model.pth", _use_new_zipfile_serialization=False)
        optimizer = {"state": slots, "param_groups": [{"lr": 0.1, "params": list(slots)}]}
        torch.save(optimizer, folder / "optimizer.pt")

    def of_torch(path: Path) -> ModelState:
        optimizer = [path] if path.stem == "optimizer" else []
        return read_torch([path.with_name("model.pt") if optimizer else path, *optimizer], MODEL)

    return damaging({"PyTorch": Victim(write, of_torch)}, rng, folder)


def keras_files(rng: random.Random, folder: Path) -> Iterator[str]:
    """What Keras's `save_weights` writes, read by its `load_weights` in a process, as `convert` does.

    HDF5's library reads some damaged files without end. The timeout ends such a process, and the next one is started.
    """
    with ExitStack() as stack:

        def start() -> BackendProcess:
            return stack.enter_context(Runtime(threads=1).start("keras", MODEL, TrainConfig()))

        process = start()

        def write(folder: Path) -> None:
            folder.mkdir()
            process.call(child.save, state=STATE, folder=folder)

        def of_keras(path: Path) -> ModelState | None:
            nonlocal process
            try:
                answer = process.call(child.read, None, ENDLESS_SECONDS, paths=[path])
            except RosettaError:
                process = start()
                raise
            if answer.refusal:
                raise RosettaError(answer.refusal)
            return answer.state

        yield from damaging({"Keras": Victim(write, of_keras, "*.h5")}, rng, folder)

"""The frameworks' own files: ours to the bit and back,
those of others, and those that mean harm."""

import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from contextlib import chdir, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from backends import NATIVE, numpy_model
from backends.decoding import log_softmax
from backends.interface import Backend
from backends.native import converting
from backends.native.checks import with_units
from backends.native.jax import read_jax
from backends.native.paddle import read_paddle
from backends.process.parent import PROJECT, BackendProcess
from common.errors import RosettaError
from common.models import model_of
from common.run import BUNDLED_RUN, STATE, RunDirectory
from common.settings import MOST_UNITS, DataConfig, TrainConfig
from common.weights import ModelState, initial_state
from tests.conftest import AT_LENGTH, SETTINGS, StartBackend, material, model
from tests.support import child, small_run
from tests.support.foreign_files import layer_tensors
from tests.support.program import answer, one_line, refusal, rosetta

MODEL = model("float32")  # that of the session's processes
FORMATS = {
    "torch": ["model.pt", "optimizer.pt"],
    "paddle": ["model.pdparams", "model.pdopt"],
    "keras": ["model.keras", "model.weights.h5"],
    "keras:example": ["model.keras", "model.weights.h5"],
    "jax": ["model.safetensors", "optimizer.safetensors"],
}
READERS = {".pdparams": read_paddle, ".safetensors": read_jax}
IN_PROCESS = {".pt": "torch", ".h5": "keras"}  # which read their own files
ReadFiles = Callable[..., ModelState]


def state_of(dtype: str) -> ModelState:
    """Weights and slots, with zeros of both signs and the smallest numbers among them."""
    weights = initial_state(replace(MODEL, dtype=dtype), 3).weights
    for array in weights.values():
        array.flat[:3] = -0.0, 0.0, np.finfo(dtype).smallest_subnormal
    return ModelState(weights, {name: np.abs(array) for name, array in weights.items()})


def assert_same(state: ModelState, expected: ModelState) -> None:
    small_run.assert_same(state.arrays(), expected.arrays())


def to_read(folder: Path, name: str) -> list[Path]:
    """The files in a folder from which a framework's model is read again."""
    return [folder / file for file in FORMATS[name] if not file.endswith(".keras")]


@pytest.fixture
def read(backend_of: StartBackend) -> ReadFiles:
    """Reader of a framework's files."""

    def read_files(*paths: Path, dtype: str = "float32") -> ModelState:
        suffix = paths[0].suffix
        if suffix in READERS:
            return READERS[suffix](paths, replace(MODEL, dtype=dtype))
        answer = backend_of(IN_PROCESS[suffix], dtype).call(child.read, paths=[*paths])
        if answer.state is None:
            raise RosettaError(answer.refusal)
        return answer.state

    return read_files


def refused(read: ReadFiles, *paths: Path) -> str:
    """The one line with which files are refused."""
    with pytest.raises(RosettaError) as caught:
        read(*paths)
    assert caught.value.exit_code == RosettaError.exit_code
    line = one_line(caught.value)
    assert str(paths[0]) in line
    assert len(line) < 1000
    return line


def foreign(process: BackendProcess, function: str, **arguments: Any) -> Any:
    """Call a function of tests.support.foreign_FRAMEWORK in the framework's process."""
    return process.call(
        child.elsewhere,
        named=f"tests.support.foreign_{process.name}:{function}",
        arguments=arguments,
    )


# Ours


# JAX reads its files by day in the tests of further models.
DAILY = [name for name in FORMATS if name != "jax" or AT_LENGTH]


@pytest.mark.parametrize(
    ("name", "dtype"), [*dict.fromkeys(DAILY, "float32").items(), ("keras", "float64")]
)
def test_written_files_are_read_to_the_bit_also_by_the_framework(
    backend_of: StartBackend, read: ReadFiles, tmp_path: Path, name: str, dtype: str
) -> None:
    process, expected = backend_of(name, dtype), state_of(dtype)
    assert process.call(child.save, state=expected, folder=tmp_path) == FORMATS[name]
    assert sorted(os.listdir(tmp_path)) == sorted(FORMATS[name])
    assert_same(read(*to_read(tmp_path, name), dtype=dtype), expected)
    if name in NATIVE and dtype == "float32":
        opened = foreign(process, "opens", paths=[str(tmp_path / file) for file in FORMATS[name]])
        np.testing.assert_array_equal(opened["encoder/kernel"], expected.weights["encoder/kernel"])
        np.testing.assert_array_equal(
            opened["slot encoder/kernel"], expected.mean_squares["encoder/kernel"]
        )


# Of others


def test_the_official_examples_own_model_is_read(
    backend_of: StartBackend, read: ReadFiles, tmp_path: Path
) -> None:
    saved = foreign(backend_of("keras", "float32"), "save", folder=str(tmp_path))
    state = read(tmp_path / "s2s_model.weights.h5")
    assert_same_function(state, saved, softmax=True)
    for name, slot in state.mean_squares.items():
        assert slot.any()
        np.testing.assert_array_equal(slot, saved[f"slot {name}"])


def assert_same_function(state: ModelState, saved: Mapping[str, Any], softmax: bool) -> None:
    """Assert that the weights mean what they meant in their own framework."""
    numpy = Backend(numpy_model, MODEL, TrainConfig())
    numpy.load(state)
    outputs, _, _ = numpy.model(saved["x"], saved["y"])
    outputs = np.exp(log_softmax(outputs)) if softmax else outputs
    np.testing.assert_allclose(outputs, saved["outputs"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["torch", "paddle"])
def test_two_biases_are_summed_and_the_slots_of_one_follow(
    backend_of: StartBackend, read: ReadFiles, tmp_path: Path, name: str
) -> None:
    process, paths = backend_of(name, "float32"), to_read(tmp_path, name)

    saved = foreign(process, "save", folder=str(tmp_path), optimizer="all")
    state = read(paths[0])
    assert saved["decoder.bias_hh_l0"].any()
    assert_same_function(state, saved, softmax=False)
    assert not any(slot.any() for slot in state.mean_squares.values())
    assert "both biases of an LSTM were trained" in refused(read, *paths)

    older = {"protocol": 2} if name == "paddle" else {}  # of pickle, which Paddle wrote before
    saved = foreign(process, "save", folder=str(tmp_path), optimizer="first", **older)
    state = read(*paths)
    assert_same_function(state, saved, softmax=False)
    for role in ("encoder", "decoder"):
        for kind, tensor in {
            "kernel": "weight_ih_l0",
            "recurrent_kernel": "weight_hh_l0",
            "bias": "bias_ih_l0",
        }.items():
            np.testing.assert_array_equal(
                state.mean_squares[f"{role}/{kind}"], saved[f"slot {role}.{tensor}"].T
            )

    foreign(process, "save", folder=str(tmp_path), optimizer="none")
    assert not any(slot.any() for slot in read(*paths).mean_squares.values())
    foreign(process, "save", folder=str(tmp_path), optimizer="adam")
    assert {"torch": "'exp_avg', 'exp_avg_sq'", "paddle": "_moment1_0"}[name] in refused(
        read, *paths
    )


UNREADABLE = "not readable or damaged; expected what"
TORCH_REFUSALS = {  # of files that tests.support.foreign_torch writes
    "float16": "is float16",
    "bfloat16": UNREADABLE,
    "layers": "'0.weight_ih_l1'",
    "huge": "(1048576, 1048576)",
    "nested": UNREADABLE,
    "malicious": UNREADABLE,
    "model": UNREADABLE,
}


def test_torch_files_of_other_models_are_refused_in_one_line(
    backend_of: StartBackend, read: ReadFiles, tmp_path: Path
) -> None:
    process = backend_of("torch", "float32")
    assert foreign(process, "save_other", folder=str(tmp_path)) == list(TORCH_REFUSALS)
    for name, expected in TORCH_REFUSALS.items():
        assert expected in refused(read, tmp_path / f"{name}.pt")
    assert b"touch " in (tmp_path / "malicious.pt").read_bytes()
    assert not (tmp_path / "executed").exists()


# Hostile


def text_of(text: str) -> bytes:
    """A text as a pickle has it."""
    encoded = text.encode()
    return pickle.BINUNICODE + len(encoded).to_bytes(4, "little") + encoded


GOOD = layer_tensors(initial_state(MODEL, 1).weights)
DTYPE = b"cnumpy\ndtype\n" + text_of("O") + b"\x85R"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n)R"
# Paddle's files: other models; then pickles that would run something. How each is refused.
OF_PADDLE: dict[str, tuple[Any, str]] = {
    "wider": (
        {**GOOD, "encoder.weight_ih_l0": np.zeros((20, 4), "f4")},
        "--dtype and the corpus must be those that",
    ),
    "of bfloat16": ({name: array.astype("u2") for name, array in GOOD.items()}, "is uint16"),
    "of objects": ({**GOOD, "dense.bias": np.array([None])}, UNREADABLE),
    "missing": (
        {name: GOOD[name] for name in GOOD if name != "dense.bias"},
        "expected encoder.weight_ih_l0",
    ),
    "not finite": (
        {**GOOD, "dense.bias": GOOD["dense.bias"] + np.nan},
        "dense/bias holds numbers that are not finite",
    ),
    "of odd names": ({f"evil\n\x1b[31m{number}": np.zeros(1) for number in range(1000)}, "\\x1b"),
    "names that are numbers": ({1: np.zeros(3)}, "expected encoder.weight_ih_l0"),
    "a number": (3, UNREADABLE),
    "an extension": (b"\x80\x02\x82\x01.", UNREADABLE),
    "a name of an allowed one": (
        b"\x80\x04" + text_of("numpy") + text_of("dtype.type") + b"\x93.",
        "which no state dict",
    ),
    "a persistent name": (b"Pmodel\n.", UNREADABLE),
    "an array of any size": (b"cnumpy\nndarray\n(I1099511627776\ntR.", UNREADABLE),
    "an array of objects": (
        ARRAY + b"(K\1K\1\x85" + DTYPE + b"\x89" + text_of("a" * 8) + b"tb.",
        UNREADABLE,
    ),
    "another state of a class": (
        b"cnumpy\ndtype\nN}" + text_of("of_numpy") + b"K\1s\x86b.",
        UNREADABLE,
    ),
    "4 GiB of bytes that do not come": (
        pickle.BINBYTES8 + (1 << 32).to_bytes(8, "little") + b".",
        UNREADABLE,
    ),
}


def test_paddle_files_of_others_are_refused_in_one_line(read: ReadFiles, tmp_path: Path) -> None:
    path = tmp_path / "model.pdparams"
    for name, (content, expected) in OF_PADDLE.items():
        path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, 4))
        assert expected in refused(read, path), name
    for protocol in (0, 2, 4):
        path.write_bytes(
            pickle.dumps({"encoder.weight_ih_l0": child.Malicious(tmp_path)}, protocol)
        )
        assert "'posix.system', which no state dict needs and which was not run" in refused(
            read, path
        )
        assert not (tmp_path / "executed").exists()
    pickle.loads(path.read_bytes())  # the file does what it is feared for
    assert (tmp_path / "executed").exists()


@pytest.fixture
def keras_file(backend_of: StartBackend, tmp_path: Path) -> Path:
    """Keras's own file, of `state_of`."""
    (folder := tmp_path / "whole").mkdir()
    backend_of("keras", "float32").call(child.save, state=state_of("float32"), folder=folder)
    return folder / "model.weights.h5"


def test_external_or_huge_arrays_of_keras_are_not_read(
    read: ReadFiles, keras_file: Path, tmp_path: Path
) -> None:
    place, shape = "layers/lstm/cell/vars/0", model_of(MODEL).weights(MODEL)["encoder/kernel"].shape
    layout = h5py.VirtualLayout(shape, "f4")
    layout[:] = h5py.VirtualSource(str(keras_file), place, shape)
    recurrent, huge = "layers/lstm/cell/vars/1", (1 << 20, 1 << 20)
    # What is refused, and stands in a place.
    changes: dict[str, tuple[str, Callable[[h5py.File], object]]] = {
        "with ExternalLink": (
            place,
            lambda file: file.update({place: h5py.ExternalLink(str(keras_file), place)}),
        ),
        "external Dataset": (
            place,
            lambda file: file.create_dataset(
                place, shape, "f4", external=[(str(keras_file), 0, 1 << 20)]
            ),
        ),
        "virtual Dataset": (place, lambda file: file.create_virtual_dataset(place, layout)),
        "shape bomb": (place, lambda file: file.create_dataset(place, huge, "f4")),
        "value.shape=(2, 3)": (place, lambda file: file.create_dataset(place, (2, 3), "f4")),
        "are float64": (recurrent, lambda file: file.create_dataset(recurrent, (64, 256), "f8")),
        "1048576 units": (recurrent, lambda file: file.create_dataset(recurrent, huge, "f4")),
        "not readable": (recurrent, lambda file: file.update({recurrent: h5py.SoftLink(place)})),
        "has 20 variables": (
            "optimizer/vars/9",
            lambda file: file.update({f"optimizer/vars/{number}": 1.0 for number in range(9, 20)}),
        ),
        "'adagrad' has 10": (
            "layers/dense/vars/1",
            lambda file: file["optimizer/vars"].attrs.update(name="adagrad"),
        ),
    }
    for expected, (removed, change) in changes.items():
        changed = tmp_path / "changed.weights.h5"
        changed.write_bytes(keras_file.read_bytes())
        with h5py.File(changed, "a") as file:
            del file[removed]
            change(file)
        assert expected in refused(read, changed)


@pytest.mark.at_length
def test_reading_without_end_is_ended(
    run: RunDirectory, keras_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDF5's library goes round in the heap of strings
    where its free room claims to be of no size."""
    content = bytearray(keras_file.read_bytes())
    # The last string of the heap, after its length.
    name = content.index(b"rm_sprop", content.rindex(b"GCOL"))
    free = name + -(-content[name - 8] // 8) * 8
    content[free + 8 : free + 16] = bytes(8)
    path = tmp_path / "endless.weights.h5"
    path.write_bytes(content)
    monkeypatch.setattr(converting, "READ_SECONDS", 2.0)
    with pytest.raises(
        RosettaError, match="the keras backend's process did not answer for 2 s and was ended"
    ):
        converting.import_native(
            [path], "keras", tmp_path / "made", run.path, "lstm", "float32", None
        )
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "name", ["model.pt", "model.weights.h5", "model.pdparams", "model.safetensors"]
)
def test_a_file_that_is_something_else_or_too_large_is_refused(
    read: ReadFiles, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(b"PK\3\4 something else")
    assert UNREADABLE.removesuffix("what") in refused(read, path)
    os.truncate(path, 1 << 40)  # takes no place on the disk
    assert "expected at most 1,073,741,824" in refused(read, path)


@pytest.mark.parametrize(
    "changed", [{"m/data.pkl": 2 << 20}, {"m/data.pkl": 99, "m/data/0": (1 << 30) + 1}]
)
def test_a_torch_file_that_unpacks_to_too_much_is_refused(
    read: ReadFiles, tmp_path: Path, changed: dict[str, int]
) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, size in changed.items():
            with archive.open(name, "w", force_zip64=True) as member:
                for start in range(0, size, 1 << 24):
                    member.write(bytes(min(1 << 24, size - start)))
    assert f"its data.pkl unpacks to {changed['m/data.pkl']:,} bytes" in refused(read, path)


# Commands


def program(*arguments: object) -> str:
    """The last line that a command prints, which must succeed."""
    status, out, err = rosetta(*arguments)
    assert status == 0, err
    return out.splitlines()[-1]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run of `material` with slots that are not zero."""
    data, weights = material("float32"), initial_state(MODEL, 3).weights
    state = ModelState(weights, {name: np.abs(weight) for name, weight in weights.items()})
    return RunDirectory.create(
        tmp_path / "run", "numpy", (MODEL, SETTINGS, DataConfig()), data, state
    )


def test_a_run_is_converted_to_each_format_and_made_again(
    run: RunDirectory,
    read: ReadFiles,
    backend_of: StartBackend,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a process of torch's own once, otherwise by those of the session."""
    expected, _ = run.read_state("last")
    with chdir(run.path):
        program("convert", ".", "--to", "torch")  # beside the run, not within
    files_of_torch = [tmp_path / "run-torch" / file for file in FORMATS["torch"]]
    assert_same(read(*files_of_torch), expected)

    monkeypatch.setattr(
        converting, "BackendProcess", lambda name, *_: nullcontext(backend_of(name, "float32"))
    )
    files = [*FORMATS["keras"], "vocabulary.json"]
    answer = {
        "backend": "keras",
        "run": str(run.path),
        "folder": f"{run.path}-keras",
        "files": files,
    }
    assert program("convert", run.path, "--to", "keras", "--json") == json.dumps(answer)
    assert_same(read(*to_read(tmp_path / "run-keras", "keras")), expected)
    assert "exists already; choose another --out" in refusal(
        2, "convert", run.path, "--to", "keras"
    )
    program("convert", run.path, "--to", "paddle", "--out", tmp_path / "deep" / "files")
    assert os.listdir(tmp_path / "deep") == ["files"]
    answer = {"run": str(run.path), "folder": f"{run.path}-weights"}
    assert program("convert", run.path, "--to", "weights", "--json") == json.dumps(answer)

    imported = ["--from", *files_of_torch, "--backend", "torch"]
    answer = {"backend": "torch", "run": str(tmp_path / "made"), "epochs": 0}
    given = ["--vocabulary", run.path, "--json"]
    assert program("convert", tmp_path / "made", *imported, *given) == json.dumps(answer)
    for file in (STATE, "vocabulary.json", "pairs.tsv"):
        assert (tmp_path / "made" / file).read_bytes() == (run.path / file).read_bytes()
    other_size = refusal(
        1, "convert", tmp_path / "x", *imported, "--vocabulary", run.path, "--latent-dim", 3
    )
    assert "has 64 units, and --latent-dim is 3" in other_size
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(
        "".join(f"{source}\t{target}\n" for source, target in run.pairs()), encoding="utf-8"
    )
    program("convert", tmp_path / "of_corpus", *imported, "--data", corpus)
    assert_same(RunDirectory.open(tmp_path / "of_corpus").read_state("last")[0], expected)


@pytest.mark.parametrize("name", NATIVE)
def test_the_printed_lines_load_the_weights(
    run: RunDirectory, backend_of: StartBackend, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    process, (expected, _) = backend_of(name, "float32"), run.read_state("last")
    monkeypatch.setattr(converting, "BackendProcess", lambda *_: nullcontext(process))
    status, out, _ = rosetta("convert", run.path, "--to", name)
    weights = process.call(child.loaded, program=out.partition("load it:\n")[2])
    assert status == 0
    for weight, array in expected.weights.items():
        np.testing.assert_array_equal(weights[weight], array)


def test_units_whose_weights_would_take_more_than_a_file_has_are_refused() -> None:
    assert with_units(MODEL, MOST_UNITS).latent_dim == MOST_UNITS
    with pytest.raises(RosettaError, match="4096 units and 2,9"):
        with_units(replace(MODEL, model="transformer"), MOST_UNITS)
    with pytest.raises(RosettaError, match="0 units, expected 1"):
        with_units(MODEL, 0)


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["none.pdparams"], "none.pdparams cannot be read"),
        (["a", "b", "c"], "3 files were given"),
        (["/dev/zero"], "it is not a file"),
    ],
)
def test_files_that_are_not_there_cannot_be_begun_with(paths: list[str], expected: str) -> None:
    with pytest.raises(RosettaError, match=expected) as caught:
        read_paddle([*map(Path, paths)], MODEL)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", NATIVE)
def test_files_that_cannot_be_written_are_one_line(
    run: RunDirectory, backend_of: StartBackend, tmp_path: Path, name: str
) -> None:
    (folder := tmp_path / "folder").mkdir()
    message = backend_of(name, "float32").call(child.refuses_to_save, run=run.path, folder=folder)
    reason = "the largest size that a file may have is reached (`ulimit -f` shows and sets it)"
    assert message == f"{tmp_path} cannot be written: {reason}; nothing is kept there"


def test_a_run_is_written_as_graphs_that_translate(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    out = tmp_path / "run-onnx"
    told = answer("convert", BUNDLED_RUN, "--to", "onnx", "--out", out)
    assert told["files"] == ["encoder.onnx", "decoder.onnx", "vocabulary.json"]
    assert sorted(path.name for path in out.iterdir()) == sorted(told["files"])
    for sentence in ("I love you!", "It is red.") if AT_LENGTH else ["I love you!"]:
        script = [sys.executable, PROJECT / "docs" / "decode_onnx.py", out, sentence]
        decoded = subprocess.run(script, capture_output=True, text=True, check=True).stdout.strip()
        translated = answer("translate", BUNDLED_RUN, "--backend", "numpy", sentence)[
            "translations"
        ]
        assert decoded == translated[0]["translation"]
    refused = subprocess.run([*script[:-1], "\u4e2d"], capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stderr) == (1, "the vocabulary has no '\u4e2d'\n")

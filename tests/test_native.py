"""The frameworks' own files: ours to the bit and back, those of others, and those that mean harm."""

import json
import os
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.native.convert import Setting, export_native, import_native
from backends.native.paddle import NAME_TABLE, StateDictUnpickler, StoredArray, read_paddle
from backends.numpy_backend import NumpyBackend, log_softmax
from backends.process.parent import BackendProcess, Runtime
from common.config import DataConfig, ModelConfig, TrainConfig
from common.errors import RosettaError
from common.run_directory import RunDirectory
from common.vocabulary import CharVocabulary
from common.weights import ModelState, initial_state, to_bytes, weight_shapes
from tests import child, native_child
from tests.program import refusal, rosetta

FORMATS = {
    "torch": ["model.pt", "optimizer.pt"],
    "paddle": ["model.pdparams", "model.pdopt"],
    "keras": ["model.keras"],
    "keras:example": ["s2s_model.keras"],
}
TENSORS = {"kernel": "weight_ih_l0", "recurrent_kernel": "weight_hh_l0"}
PAIRS = [("Go.", "Va !"), ("Go.", "Bouge\u2028!"), ("犬 \r", "é"), ("No.", "Non.")]
VOCABULARIES = CharVocabulary.of(s for s, _ in PAIRS), CharVocabulary.of(f"\t{t}\n" for _, t in PAIRS)
MODEL = ModelConfig(len(VOCABULARIES[0]), len(VOCABULARIES[1]), 0, 1, latent_dim=4)


def state_of(dtype: str) -> ModelState:
    """Numbers of the whole range, zeros of both signs and the smallest ones among them."""
    rng = np.random.default_rng(3)

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        array = (rng.normal(size=shape) * 10.0 ** rng.integers(-30, 30, shape)).astype(dtype)
        array.flat[:3] = -0.0, 0.0, np.finfo(dtype).smallest_subnormal
        return array

    shapes = weight_shapes(replace(MODEL, dtype=dtype))
    slots = {name: np.abs(draw(shape)) for name, shape in shapes.items()}
    return ModelState({name: draw(shape) for name, shape in shapes.items()}, slots)


def assert_same(got: ModelState, expected: ModelState) -> None:
    assert to_bytes(got, {}) == to_bytes(expected, {})


Open = Callable[[str], BackendProcess]


@pytest.fixture(scope="module")
def opened() -> Iterator[Open]:
    """The process of a backend, started once."""
    with ExitStack() as stack:

        @cache
        def start(name: str) -> BackendProcess:
            return stack.enter_context(Runtime(threads=1).start(name, MODEL, TrainConfig()))

        yield start


def read(process: BackendProcess, *paths: Path) -> ModelState:
    answer = process.call(native_child.read, paths=[str(path) for path in paths])
    assert answer.state is not None, answer.refusal
    return answer.state


def refused(process: BackendProcess, *paths: Path, **asked: int) -> str:
    """The one line with which files are refused."""
    answer = process.call(native_child.read, paths=[str(path) for path in paths], **asked)
    assert answer.refusal, f"{paths} were read"
    assert answer.exit_code == RosettaError.exit_code
    message = answer.refusal
    assert message.isprintable(), message
    assert len(message) < 1000
    return message


def foreign(process: BackendProcess, function: str, **arguments: Any) -> Any:
    """What a function of tests.foreign_FRAMEWORK gives, in the framework's process."""
    module = f"tests.foreign_{process.name.partition(':')[0]}"
    return process.call(child.elsewhere, named=f"{module}:{function}", arguments=arguments)


# Round trips


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_written_is_read_to_the_bit(opened: Open, tmp_path: Path, name: str) -> None:
    """In float32; a run of float64 goes round by all formats below."""
    expected = state_of("float32")
    saved = opened(name).call(native_child.save, state=expected, folder=str(tmp_path))
    assert saved == FORMATS[name] == sorted(os.listdir(tmp_path), key=FORMATS[name].index)
    assert_same(read(opened(name), *(tmp_path / file for file in FORMATS[name])), expected)
    if name.startswith("keras"):
        other = {"keras": "keras:example", "keras:example": "keras"}[name]
        assert_same(read(opened(other), tmp_path / FORMATS[name][0]), expected)


@pytest.mark.parametrize("name", FORMATS)
def test_the_framework_itself_opens_our_files(opened: Open, tmp_path: Path, name: str) -> None:
    state = initial_state(MODEL, 4)
    state = ModelState(state.weights, {name: np.abs(array) for name, array in state.weights.items()})
    process = opened(name)
    process.call(native_child.save, state=state, folder=str(tmp_path))
    paths = [str(tmp_path / file) for file in FORMATS[name]]
    found = foreign(process, "opens", paths=paths)
    np.testing.assert_array_equal(found["encoder/kernel"], state.weights["encoder/kernel"])
    np.testing.assert_array_equal(found["slot encoder/kernel"], state.mean_squares["encoder/kernel"])


# Of others


@pytest.mark.parametrize("named", [False, True])
def test_the_official_examples_own_model_is_read(opened: Open, tmp_path: Path, named: bool) -> None:
    saved = foreign(opened("keras"), "save", folder=str(tmp_path), named=named)
    got = read(opened("keras"), tmp_path / "s2s_model.keras")
    for name, weight in got.weights.items():
        np.testing.assert_array_equal(weight, saved[name])
        np.testing.assert_array_equal(got.mean_squares[name], saved[f"slot {name}"])
        assert got.mean_squares[name].any()
    assert_same_function(got, saved, softmax=True)


def test_an_example_that_took_no_step_has_slots_of_zeros(opened: Open, tmp_path: Path) -> None:
    foreign(opened("keras"), "save", folder=str(tmp_path), named=False, optimizer="none")
    got = read(opened("keras"), tmp_path / "s2s_model.keras")
    assert not any(slot.any() for slot in got.mean_squares.values())


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "adagrad"])
def test_slots_of_another_keras_optimizer_are_refused(opened: Open, tmp_path: Path, optimizer: str) -> None:
    foreign(opened("keras"), "save", folder=str(tmp_path), named=False, optimizer=optimizer)
    path = tmp_path / "s2s_model.keras"
    if optimizer == "sgd":  # has none
        assert not any(slot.any() for slot in read(opened("keras"), path).mean_squares.values())
    else:
        assert "expected an RMSprop" in refused(opened("keras"), path)


def assert_same_function(got: ModelState, saved: Mapping[str, Any], softmax: bool) -> None:
    """That the weights mean what they meant in their own framework."""
    numpy = NumpyBackend(MODEL, TrainConfig())
    numpy.load(got)
    outputs = numpy._model(saved["x"], saved["y"])[-1]
    outputs = np.exp(log_softmax(outputs)) if softmax else outputs
    np.testing.assert_allclose(outputs, saved["outputs"], rtol=1e-5, atol=1e-6)


def assert_summed(got: ModelState, saved: Mapping[str, Any], dense_transposed: bool) -> None:
    """That `got` is the foreign Translator whose tensors were saved, with the sum of its biases."""
    for role, layer in (("encoder", "reader"), ("decoder", "writer")):
        for kind, tensor in TENSORS.items():
            np.testing.assert_array_equal(got.weights[f"{role}/{kind}"], saved[f"{layer}.{tensor}"].T)
        first, second = saved[f"{layer}.bias_ih_l0"], saved[f"{layer}.bias_hh_l0"]
        assert first.any()
        assert second.any()
        np.testing.assert_array_equal(got.weights[f"{role}/bias"], first + second)
    dense = saved["out.weight"]
    np.testing.assert_array_equal(got.weights["dense/kernel"], dense.T if dense_transposed else dense)
    np.testing.assert_array_equal(got.weights["dense/bias"], saved["out.bias"])
    assert_same_function(got, saved, softmax=False)


@pytest.mark.parametrize("name", ["torch", "paddle"])
def test_two_biases_are_summed_and_their_optimizer_is_refused(opened: Open, tmp_path: Path, name: str) -> None:
    saved = foreign(opened(name), "save", folder=str(tmp_path), optimizer="all")
    model, optimizer = (tmp_path / file for file in FORMATS[name])
    got = read(opened(name), model)
    assert_summed(got, saved, dense_transposed=name == "torch")
    assert not any(slot.any() for slot in got.mean_squares.values())
    message = refused(opened(name), model, optimizer)
    assert "both biases of an LSTM were trained, so their sum moved twice in a step" in message
    assert "Leave the optimizer's file out" in message


@pytest.mark.parametrize("name", ["torch", "paddle"])
def test_the_slots_of_one_trained_bias_follow(opened: Open, tmp_path: Path, name: str) -> None:
    saved = foreign(opened(name), "save", folder=str(tmp_path), optimizer="first")
    got = read(opened(name), *(tmp_path / file for file in FORMATS[name]))
    assert_summed(got, saved, dense_transposed=name == "torch")
    for role, layer in (("encoder", "reader"), ("decoder", "writer")):
        for kind, tensor in TENSORS.items():
            np.testing.assert_array_equal(got.mean_squares[f"{role}/{kind}"], saved[f"slot {layer}.{tensor}"].T)
        np.testing.assert_array_equal(got.mean_squares[f"{role}/bias"], saved[f"slot {layer}.bias_ih_l0"])


@pytest.mark.parametrize("name", ["torch", "paddle"])
def test_an_optimizer_that_took_no_step_has_slots_of_zeros(opened: Open, tmp_path: Path, name: str) -> None:
    foreign(opened(name), "save", folder=str(tmp_path), optimizer="none")
    got = read(opened(name), *(tmp_path / file for file in FORMATS[name]))
    assert not any(slot.any() for slot in got.mean_squares.values())


def test_slots_that_rmsprop_here_lacks_are_refused(opened: Open, tmp_path: Path) -> None:
    arguments = {"folder": str(tmp_path), "optimizer": "first"}
    foreign(opened("torch"), "save", momentum=0.5, **arguments)
    assert "'momentum_buffer'" in refused(opened("torch"), tmp_path / "model.pt", tmp_path / "optimizer.pt")
    foreign(opened("paddle"), "save", folder=str(tmp_path), optimizer="adam")
    assert "_moment1_0" in refused(opened("paddle"), tmp_path / "model.pdparams", tmp_path / "model.pdopt")


def test_paddles_older_pickles_are_read(opened: Open, tmp_path: Path) -> None:
    saved = foreign(opened("paddle"), "save", folder=str(tmp_path), optimizer="first", protocol=2)
    assert_summed(read(opened("paddle"), tmp_path / "model.pdparams"), saved, dense_transposed=False)


# Of no model, or of another

TORCH_REFUSALS = {
    "wider": "--latent-dim",
    "float16": "is float16",
    "bfloat16": "is not a state dict",
    "layers": "'0.weight_ih_l1'",
    "missing": "expected encoder and decoder",
    "not finite": "out.bias holds numbers that are not finite",
    "huge": "(1048576, 1048576)",
    "nested": "is not a state dict",
    "number": "is not a state dict",
    "names": "\\x1b",
    "malicious": "is not a state dict",
    "model": "is not a state dict",
}
PADDLE_REFUSALS = {
    "wider": "--latent-dim",
    "bfloat16": "is uint16",
    "missing": "expected encoder and decoder",
    "not finite": "out.bias holds numbers that are not finite",
    "nested": "which no state dict needs",
    "number": "is not a state dict",
}
KERAS_REFUSALS = {
    "wider": "--latent-dim",
    "relu": "activation 'relu', expected 'tanh'",
    "biasless": "use_bias False, expected True",
    "gru": "'keras.layers.GRU'",
    "deeper": "has the layers 'keras.layers.InputLayer', 'keras.layers.LSTM', 'keras.layers.LSTM',",
    "lambda": "'keras.layers.Lambda'",
    "sequence": "'keras.layers.InputLayer', 'keras.layers.LSTM';",
}


@pytest.mark.parametrize(
    ("name", "suffix", "refusals"),
    [("torch", "pt", TORCH_REFUSALS), ("paddle", "pdparams", PADDLE_REFUSALS), ("keras", "keras", KERAS_REFUSALS)],
)
def test_other_models_are_one_clear_line(
    opened: Open, tmp_path: Path, name: str, suffix: str, refusals: dict[str, str]
) -> None:
    names = foreign(opened(name), "save_other", folder=str(tmp_path))
    assert names == list(refusals)
    for other, expected in refusals.items():
        for asked in [{"latent_dim": MODEL.latent_dim}, *([{}] if other != "wider" else [])]:
            message = refused(opened(name), tmp_path / f"{other}.{suffix}", **asked)
            assert expected in message, message
    if name == "torch":
        assert b"touch " in (tmp_path / "malicious.pt").read_bytes()
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_paddle_file_runs_nothing(opened: Open, tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "model.pdparams"
    path.write_bytes(pickle.dumps({"encoder.weight_ih_l0": native_child.Malicious(tmp_path)}, protocol))
    # Paddle writes no protocol 0, which has other operations.
    assert ("posix.system" if protocol else "is not a state dict") in refused(opened("paddle"), path)
    assert not (tmp_path / "executed").exists()
    pickle.loads(path.read_bytes())  # the file does what it is feared for
    assert (tmp_path / "executed").exists()


def calling(claim: Any, argument: int) -> bytes:
    """A pickle that calls something with a number."""
    number = pickle.dumps(argument, 2)[2:-1]
    return f"c{claim.__module__}\n{claim.__qualname__}\n".encode() + number + pickle.TUPLE1 + pickle.REDUCE + b"."


@pytest.mark.parametrize("claim", [eval, getattr, np.load, type("C", (), {"__module__": "__main__"})])
def test_a_paddle_file_names_nothing_that_could_be_called(opened: Open, tmp_path: Path, claim: Any) -> None:
    path = tmp_path / "model.pdparams"
    path.write_bytes(calling(claim, 3))
    named = f"'{claim.__module__}.{claim.__qualname__}', which no state dict needs"
    assert named in refused(opened("paddle"), path)


def test_a_paddle_file_takes_no_memory_by_calling_numpys_own_constructor(opened: Open, tmp_path: Path) -> None:
    assert pickle.loads(calling(np.ndarray, 3)).shape == (3,)
    assert isinstance(StateDictUnpickler(calling(np.ndarray, 3)).load(), StoredArray)
    path = tmp_path / "model.pdparams"
    path.write_bytes(calling(np.ndarray, 1 << 40))
    assert "is not a state dict" in refused(opened("paddle"), path)


def text_of(text: str) -> bytes:
    """A text as a pickle has it."""
    encoded = text.encode()
    return pickle.BINUNICODE + len(encoded).to_bytes(4, "little") + encoded


def announcing(operation: bytes) -> bytes:
    """A pickle that announces 4 GiB and ends."""
    return operation + (1 << 32).to_bytes(8, "little") + pickle.STOP


LONG = 3_000_000
ENCODE = b"c_codecs\nencode\nq\0" + text_of("a" * LONG) + b"q\1" + text_of("latin1") + b"q\2"
# Pickles of which a few bytes have Python's unpickler take much memory, or time without end.
GREEDY = {
    "a place in the memo": b"]r\xff\xff\xff\x0f.",
    "bytearray": announcing(pickle.BYTEARRAY8),
    "bytes": announcing(pickle.BINBYTES8),
    "text": announcing(pickle.BINUNICODE8),
    "frame": announcing(pickle.FRAME),
    "lists": b"]" * LONG,
    "wide text": text_of("a" * LONG + "\U0001f600") + b".",
    "a text that is encoded again and again": ENCODE + b"h\0h\1h\2\x86R" * 100 + b".",
    "tuples of tuples": b"})q\0" + b"h\0h\0\x86q\0" * 60 + b"K\1s.",
    "texts of tuples of tuples": b"}" + text_of(NAME_TABLE) + b"}X\1\0\0\0a)q\0" + b"h\0h\0\x86q\0" * 60 + b"ss.",
    "an array of many names": pickle.dumps(dict.fromkeys(map(str, range(100)), np.zeros(LONG // 8)), 4),
}


@pytest.mark.parametrize("content", GREEDY.values(), ids=GREEDY)
def test_a_pickle_takes_no_more_memory_than_a_few_times_its_size(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pdparams"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(RosettaError) as caught:
            read_paddle([path], MODEL, None)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(content) + 1_000_000
    finally:
        tracemalloc.stop()
    assert str(caught.value).isprintable()


def rewritten(path: Path, change: Callable[[dict[str, Any]], Any], out: Path) -> Path:
    """The archive with another config.json."""
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(out, "w") as written:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config)
                content = json.dumps(config).encode()
            written.writestr(name, content)
    return out


def test_a_keras_archive_builds_nothing(opened: Open, tmp_path: Path) -> None:
    expected = state_of("float32")
    opened("keras").call(native_child.save, state=expected, folder=str(tmp_path))
    path = tmp_path / "model.keras"
    evil = {"module": "os", "class_name": "system", "registered_name": None}
    evil["config"] = {"name": "evil", "command": f"touch {tmp_path}/executed"}

    def with_layer(config: dict[str, Any]) -> None:
        config["config"]["layers"].append(evil)

    def as_class(config: dict[str, Any]) -> None:
        config["config"]["layers"][2] |= evil

    def as_loss(config: dict[str, Any]) -> None:
        config["compile_config"]["loss"] = evil

    for change in (with_layer, as_class):
        assert "'os.system'" in refused(opened("keras"), rewritten(path, change, tmp_path / "evil.keras"))
    assert_same(read(opened("keras"), rewritten(path, as_loss, tmp_path / "evil.keras")), expected)
    for change in (dict.clear, lambda config: config.update(config=[1])):
        assert "is not a .keras archive" in refused(opened("keras"), rewritten(path, change, tmp_path / "e.keras"))
    assert not (tmp_path / "executed").exists()


def test_arrays_that_lie_elsewhere_are_not_fetched(opened: Open, tmp_path: Path) -> None:
    import h5py

    opened("keras").call(native_child.save, state=state_of("float32"), folder=str(tmp_path))
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        (tmp_path / "good.h5").write_bytes(archive.read("model.weights.h5"))
        config = archive.read("config.json")
    name, shape = "layers/lstm/cell/vars/0", weight_shapes(MODEL)["encoder/kernel"]

    def with_link(file: h5py.File) -> None:
        file[name] = h5py.ExternalLink(str(tmp_path / "good.h5"), name)

    def with_external(file: h5py.File) -> None:
        file.create_dataset(name, shape, "f4", external=[(str(tmp_path / "good.h5"), 0, 10_000)])

    def with_virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout(shape, "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "good.h5"), name, shape)
        file.create_virtual_dataset(name, layout)

    def with_huge(file: h5py.File) -> None:
        file.create_dataset(name, (1 << 20, 1 << 20), "f4")

    def with_huge_chunks(file: h5py.File) -> None:
        file.create_dataset(name, shape, "f4", maxshape=(None, None), chunks=(1 << 14, 1 << 14), compression="gzip")
        file[name][0, 0] = 1

    for change in (with_link, with_external, with_virtual, with_huge, with_huge_chunks):
        changed = tmp_path / f"{change.__name__}.h5"
        changed.write_bytes((tmp_path / "good.h5").read_bytes())
        with h5py.File(changed, "a") as file:
            del file[name]
            change(file)
        with zipfile.ZipFile(tmp_path / "changed.keras", "w") as archive:
            archive.writestr("config.json", config)
            archive.write(changed, "model.weights.h5")
        assert name in refused(opened("keras"), tmp_path / "changed.keras")


def test_files_that_unpack_to_too_much_are_not_unpacked(opened: Open, tmp_path: Path) -> None:
    for name in ("torch", "keras"):
        path = tmp_path / FORMATS[name][0]
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("config.json", b" " * (1 << 25))
        for asked in ({"latent_dim": MODEL.latent_dim}, {"largest": MODEL.latent_dim}):
            assert "holds more than" in refused(opened(name), path, **asked)
    path = tmp_path / "model.pdparams"
    with open(path, "wb") as file:
        file.truncate(1 << 40)  # takes no place on the disk
    assert "holds more than" in refused(opened("paddle"), path)


def test_a_flipped_bit_in_a_file_of_torch_is_refused_or_changes_nothing(opened: Open, tmp_path: Path) -> None:
    process, expected, rng = opened("torch"), state_of("float32"), np.random.default_rng(13)
    process.call(native_child.save, state=expected, folder=str(tmp_path))
    damaged, refusals = tmp_path / "damaged", 0
    for number, file in enumerate(FORMATS["torch"]):
        whole = (tmp_path / file).read_bytes()
        paths = [str(tmp_path / name) for name in FORMATS["torch"]]
        paths[number] = str(damaged)
        for bit in rng.choice(8 * len(whole), 150, replace=False):
            content = bytearray(whole)
            content[bit // 8] ^= 1 << bit % 8
            damaged.write_bytes(content)
            answer = process.call(native_child.read, paths=paths)
            if answer.state is None:
                refusals += 1
            else:
                assert_same(answer.state, expected)
    assert refusals > 100


def test_negative_slots_in_a_file_are_refused(run: RunDirectory, opened: Open, tmp_path: Path) -> None:
    opened("paddle").call(native_child.save, state=state_of("float32"), folder=str(tmp_path))
    files = [tmp_path / file for file in FORMATS["paddle"]]
    stored = pickle.loads(files[1].read_bytes())
    (slot,) = [name for name, array in stored.items() if "mean_square" in name and array.shape == (4, 16)]
    stored[slot][3, 2] = -1e-3
    files[1].write_bytes(pickle.dumps(stored, 2))
    with pytest.raises(RosettaError, match=r"model\.pdopt: RMSprop slot dense/kernel holds negative numbers"):
        import_native(files, "paddle", Setting.of_run(run.path), tmp_path / "made")
    assert not (tmp_path / "made").exists()


# Commands


def created(path: Path, dtype: str = "float32") -> RunDirectory:
    configs = replace(MODEL, dtype=dtype), TrainConfig(batch_size=2, seed=9), DataConfig("corpus", 4, 0.25)
    return RunDirectory.create(path, "numpy", configs, "ab" * 32, PAIRS, VOCABULARIES, state_of(dtype))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return created(tmp_path_factory.mktemp("native") / "run")


def test_a_run_goes_round_by_all_formats_and_comes_back_the_same(tmp_path: Path) -> None:
    first = run = created(tmp_path / "first", "float64")
    for name in ("torch", "paddle", "keras"):
        folder = tmp_path / f"{name}-files"
        files = export_native(run, "last", name, folder)
        setting = Setting.of_run(run.path / "vocabulary.json")
        run = import_native([folder / file for file in files], name, setting, tmp_path / name)
        assert run.backend == name
        for file in ("state.safetensors", "vocabulary.json", "pairs.tsv"):
            assert (run.path / file).read_bytes() == (first.path / file).read_bytes()
        assert RunDirectory.open(run.path) == run


def test_convert_writes_files_beside_the_run(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, err = rosetta("convert", run.path, "--to", "torch", "--json")
    folder = run.path.with_name("run-torch")
    assert status == 0, err
    answer = {"backend": "torch", "run": str(run.path), "folder": str(folder), "files": FORMATS["torch"]}
    assert json.loads(out.splitlines()[-1]) == answer
    assert sorted(os.listdir(folder)) == FORMATS["torch"]
    assert "exists already; choose another --out" in refusal(2, "convert", run.path, "--to", "torch")
    monkeypatch.chdir(run.path)
    assert f"{folder} exists already" in refusal(2, "convert", ".", "--to", "torch"), "beside the run, not within"
    status, out, _ = rosetta("convert", run.path, "--to", "paddle", "--out", tmp_path / "deep" / "files")
    assert status == 0
    assert f"{tmp_path / 'deep' / 'files'} holds model.pdparams and model.pdopt" in out.replace("\n", "")
    assert os.listdir(tmp_path / "deep") == ["files"]


def test_convert_makes_a_run_of_files(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_bytes("".join(f"{s}\t{t}\n" for s, t in PAIRS if "\r" not in s).encode())
    trained = tmp_path / "trained"
    options = ["--data", corpus, "--latent-dim", 5, "--dtype", "float64"]
    status, _, err = rosetta("train", "--backend", "numpy", "--out", trained, "--epochs", 1, *options)
    assert status == 0, err
    assert rosetta("convert", trained, "--to", "torch")[0] == 0
    files = [tmp_path / "trained-torch" / file for file in FORMATS["torch"]]
    imported = ["--from", *files, "--backend", "torch"]
    status, out, err = rosetta("convert", tmp_path / "made", *imported, *options, "--json")
    assert status == 0, err
    answer = {"backend": "torch", "run": str(tmp_path / "made"), "epochs": 0}
    assert json.loads(out.splitlines()[-1]) == answer
    made, place = RunDirectory.open(tmp_path / "made").read_state("last")
    assert place.epoch == place.step == 0
    assert_same(made, RunDirectory.open(trained).read_state("last")[0])
    assert rosetta("translate", tmp_path / "made", "Go.", "--backend", "numpy")[0] == 0
    assert rosetta("train", "--out", tmp_path / "made", "--resume", "--epochs", 1, "--backend", "numpy")[0] == 0
    assert "exists already" in refusal(2, "convert", tmp_path / "made", *imported, *options)
    found = [*options[:2], *options[4:]]  # without --latent-dim, which the file tells
    assert rosetta("convert", tmp_path / "found", *imported, *found)[0] == 0
    assert RunDirectory.open(tmp_path / "found").model_config.latent_dim == 5
    assert_same(RunDirectory.open(tmp_path / "found").read_state("last")[0], made)
    of_run = ["--vocabulary", tmp_path / "found", "--latent-dim", 6]
    said = refusal(1, "convert", tmp_path / "six", *imported, *of_run)
    assert "has LSTMs of 5 units, and --latent-dim is 6" in said
    before = sorted(os.listdir(tmp_path))
    message = refusal(1, "convert", tmp_path / "other", *imported, *options[:2])
    assert "model.pt: encoder.weight_ih_l0 is float64 (20, " in message
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("name", ["torch", "paddle", "keras"])
def test_the_number_of_units_is_taken_from_the_file(opened: Open, tmp_path: Path, name: str) -> None:
    config = replace(MODEL, latent_dim=MODEL.latent_dim + 3)
    expected = initial_state(config, 5)
    with Runtime(threads=1).start(name, config, TrainConfig()) as process:
        process.call(native_child.save, state=expected, folder=str(tmp_path))
    paths = [tmp_path / file for file in FORMATS[name]]
    assert_same(read(opened(name), *paths), expected)
    said = refused(opened(name), *paths, latent_dim=MODEL.latent_dim)
    assert f"{paths[0]} has LSTMs of 7 units, and --latent-dim is 4; leave out --latent-dim" in said


@pytest.mark.parametrize("name", ["torch", "paddle", "keras"])
def test_more_units_than_are_bounded_are_read_only_when_they_are_told(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    opened(name).call(native_child.save, state=state_of("float32"), folder=str(tmp_path))
    path = tmp_path / FORMATS[name][0]
    assert "expected 1 to 3; more are read when --latent-dim tells" in refused(opened(name), path, largest=3)
    assert opened(name).call(native_child.read, paths=[str(path)], latent_dim=4, largest=3).state is not None
    with open(tmp_path / "large", "wb") as file:
        file.truncate(1 << 40)  # takes no place on the disk
    assert "expected less for a model of 1,024 units" in refused(opened(name), tmp_path / "large")


def test_convert_says_what_it_needs(run: RunDirectory, tmp_path: Path) -> None:
    made = ["convert", tmp_path / "x", "--from", tmp_path / "model.pt", "--backend", "torch"]
    for expected, arguments in {
        "needs --to NAME, or --from FILE": ["convert", run.path],
        "and --backend NAME": made[:-2],
        "no vocabulary: give --data": made,
        "leave out --seed": ["convert", run.path, "--to", "torch", "--seed", 3],
        "leave out optimizer.pt": ["convert", run.path, "optimizer.pt", "--to", "torch"],
        "leave out --from": [*made, "--to", "torch"],
        "leave out --out": [*made, "--out", tmp_path / "y"],
        "leave out --data": [*made, "--vocabulary", run.path, "--data", "phrasebook"],
        "choose one of": ["convert", run.path, "--to", "jax"],
        "is not a run": ["convert", tmp_path / "nothing", "--to", "torch"],
        "is not a run (": [*made, "--vocabulary", tmp_path / "vocabulary.json"],
        "model.pt cannot be read": [*made, "--vocabulary", run.path],
        "3 files were given": [*made, "--from", "a", "--from", "b", "--vocabulary", run.path],
        "numpy has no format of its own": ["convert", run.path, "--to", "numpy", "--out", tmp_path / "x"],
        "numpy has no format of its own; ": [*made[:-1], "numpy", "--vocabulary", run.path],
    }.items():
        assert expected in refusal(2, *arguments)
    assert os.listdir(tmp_path) == []

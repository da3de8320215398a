"""The model files, which a learner copies, with the same names in the same order,
which import nothing of ours."""

import ast
import json
from pathlib import Path
from shutil import copy
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from backends import TABLE, numpy_model
from backends.interface import Backend, ModelFile
from backends.process.parent import PROJECT
from common.run import BUNDLED_RUN
from common.tensors import Array, Batches
from common.weights import ModelState, initial_state
from tests.conftest import AT_LENGTH, SETTINGS, StartBackend, batch_of, model
from tests.support import child

FILES = {name: PROJECT / "backends" / f"{name}_model.py" for name in TABLE if ":" not in name}
NAMES = """
    Seq2Seq Batch has_gpu prepare layout loss_of RMSprop gradients train_step evaluate_step forward
    start step take assign to_tensor to_array
""".split()
# What a model file has besides, which the others leave to their framework.
OWN = {"numpy": {"Lstm", "log_softmax", "sigmoid"}}
STEPS, ROWS = 3, 8

# Weights and batches from a file, three steps, the losses printed; then the script that shows a
# model file in use, in another precision.
SCRIPT = """
import json, runpy, sys
from importlib import import_module
from safetensors.numpy import load_file

api = import_module(sys.argv[1])
arrays = load_file("arrays.safetensors")
api.prepare("float64")
sizes = [len(arrays[f"{name}kernel"]) for name in ("encoder/", "decoder/", "encoder/recurrent_")]
model = api.Seq2Seq(*sizes)
for name, weight in model.named_weights().items():
    api.assign(weight, api.layout(name, arrays[name]))
optimizer, batches = api.RMSprop(model, *json.loads(sys.argv[2])), []
for step in range(3):
    given = {name: array for name, array in arrays.items() if name.startswith(f"{step} ")}
    batches.append(api.Batch(**{name[2:]: api.to_tensor(array) for name, array in given.items()}))
print(json.dumps([float(api.train_step(model, optimizer, batch)[0]) for batch in batches]))
sys.argv = ["", sys.argv[1], "pairs.tsv", "3"]
runpy.run_path("use_a_model.py")
"""


def public_names(path: Path) -> list[str]:
    tree = ast.parse(path.read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [
        node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")
    ]


def test_the_protocol_has_the_names_of_a_model_file() -> None:
    members = {*vars(ModelFile), *ModelFile.__annotations__}
    assert {name for name in members if not name.startswith("_")} == {*NAMES}


@pytest.mark.parametrize("name", FILES)
def test_model_files_have_the_same_names_and_import_nothing_of_ours(name: str) -> None:
    names = [public for public in public_names(FILES[name]) if public not in OWN.get(name, ())]
    if "canonical" in names:
        assert names.pop(names.index("layout") + 1) == "canonical"
    assert names == NAMES, "a further function or class has a name that begins with an underscore"
    source = FILES[name].read_text("utf-8")
    modules = {
        alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    modules |= {
        node.module or ""
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
    }
    assert not {module.partition(".")[0] for module in modules} & {
        "common",
        "backends",
        "benchmarks",
    }


@pytest.mark.parametrize(
    ("further", "name"),
    [(model, name) for name in FILES for model in TABLE[name].models if model != "lstm"],
)
def test_a_further_models_file_takes_from_its_frameworks_first_one_alone(
    further: str, name: str
) -> None:
    """It has the same names, of which it adds its own Seq2Seq, and may have its own layout."""
    path = PROJECT / "backends" / f"{name}_{further}.py"
    tree = ast.parse(path.read_text("utf-8"))
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = {
        node.module: [alias.name for alias in node.names]
        for node in imported
        if node.module.startswith("backends")
    }
    taken = ours.pop(f"backends.{name}_model")
    assert ours in ({}, {"backends": [f"{name}_model"]})
    own = public_names(path)
    assert {*taken, *own} >= {*NAMES}
    assert "Seq2Seq" in own
    assert not any(node.module.startswith(("common", "benchmarks")) for node in imported)


# JAX compiles anew, at length alone.
@pytest.mark.parametrize("name", [name for name in FILES if name != "jax" or AT_LENGTH])
def test_a_model_file_copied_alone_trains_to_the_references_losses(
    backend_of: StartBackend, name: str, tmp_path: Path
) -> None:
    config = model("float64")
    state = initial_state(config, 3)
    batches = Batches(batch_of(STEPS * ROWS, "float64"), np.arange(STEPS * ROWS), ROWS)
    reference = Backend(numpy_model, config, SETTINGS)
    reference.load(state)
    arrays = dict(state.weights)
    for step, batch in enumerate(batches):
        tensors = reference._tensors(batch)._asdict()
        arrays |= {
            f"{step} {field}": array for field, array in tensors.items() if array is not None
        }
    save_file(
        {name: np.array(array, order="C") for name, array in arrays.items()},
        tmp_path / "arrays.safetensors",
    )
    for path in (
        FILES[name],
        PROJECT / "docs" / "tutorial" / "use_a_model.py",
        BUNDLED_RUN / "pairs.tsv",
    ):
        copy(path, tmp_path)
    constants = [SETTINGS.learning_rate, SETTINGS.rho, SETTINGS.epsilon]
    printed = backend_of(name, "float64").call(
        child.run_script,
        text=SCRIPT,
        folder=tmp_path,
        arguments=[f"{name}_model", json.dumps(constants)],
    )
    expected = reference.train(batches, lambda step, loss: None).step_losses
    losses, *in_use = printed.splitlines()
    np.testing.assert_allclose(json.loads(losses), expected, rtol=1e-13)
    first, last, too_few, *sentences = in_use
    assert too_few.startswith("3 steps are done; the example takes 12,500")
    assert float(last.split()[3].strip(",")) < float(first.split()[3].strip(","))
    assert [sentence.partition(" ->")[0] for sentence in sentences] == ["Go!", "Go!", "Go."]


def test_layers_of_one_shape_begin_with_other_weights() -> None:
    weights = numpy_model.Seq2Seq(5, 7, 4).weights
    assert not np.array_equal(
        weights["encoder/recurrent_kernel"], weights["decoder/recurrent_kernel"]
    )


def test_all_batches_of_a_size_are_decoded_in_the_same_numbers_of_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For each of them a framework may compile anew."""
    seen: set[int] = set()
    step = numpy_model.step

    def watched(network: Any, data: Array, *states: Array) -> Any:
        seen.add(len(data))
        return step(network, data, *states)

    monkeypatch.setattr(numpy_model, "step", watched)
    config = model("float64")
    backend = Backend(numpy_model, config, SETTINGS)
    state = initial_state(config, 3)
    # So that rows end at different places.
    weights = {name: 8 * values for name, values in state.weights.items()}
    weights["dense/bias"][config.stop_token] += 8
    backend.load(ModelState(weights, state.mean_squares))
    numbers = {32}
    while fewer := 3 * min(numbers) // 4:
        numbers.add(fewer)
    for first in (0, 32):
        batch = batch_of(64, "float64").take(np.arange(first, first + 32))
        ids = backend.translate(batch.encoder_ids, batch.encoder_lengths, 40)
        assert len(set((ids != config.stop_token).sum(1))) > 3
    assert len(seen) > 2
    assert seen <= numbers

"""Models beside the official example's, in every framework that has them:
parity, mistakes, groups and files."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from backends import NATIVE, TABLE
from backends.interface import Backend, Emit
from backends.native import converting
from backends.process.parent import Runtime
from backends.process.side_by_side import open_side_by_side
from benchmarks.parity.cases import QUICK, Cases, Size, StageArrays
from benchmarks.parity.comparison import STAGES, Comparison, Parity, compare_backends
from common.models import MODELS, model_of, rectified_biases
from common.run import RunDirectory
from common.settings import DataConfig
from common.weights import ModelState, initial_state
from tests.conftest import AT_LENGTH, SETTINGS, CasesOf, Plant, material, model
from tests.support import child, small_run
from tests.support.program import answer, refusal, rosetta
from tests.support.sharing import Processes, Sharing

UNITS = 32
FURTHER = [name for name in MODELS if name != "lstm"]
# Of few widths, for JAX.
SMALL = Size(num_samples=64, steps=2, batch_rows=16, sentences=8, permutations=0)


def ways() -> Iterator[tuple[str, str, str, str]]:
    """Each further model in each backend that has it, with a precision and a mode of padding."""
    for further, (name, entry) in product(FURTHER, TABLE.items()):
        if further in entry.models:
            both = product(["float64", "float32"], ["mask", "space"])
            yield from (
                (further, name, *way) for way in (both if AT_LENGTH else [("float64", "mask")])
            )


@pytest.mark.parametrize(("further", "name", "dtype", "padding"), list(ways()))
def test_every_stage_of_parity_passes(
    further: str, name: str, dtype: str, padding: str, cases_of: CasesOf
) -> None:
    """By day JAX, which compiles each function for each shape, is compared up to gradients."""
    cases = cases_of(UNITS, padding, size=QUICK if AT_LENGTH else SMALL, model=further)
    stages = STAGES if name != "jax" or AT_LENGTH else STAGES[: STAGES.index("step")]
    with cases.start(name, dtype) as process:
        comparison = Comparison(cases, StageArrays(process, dtype, cases.by_stage))
        for stage in stages:
            checks = list(comparison.stage(stage))
            assert checks
            assert [check for check in checks if not check.passed] == []


# Each mistake, its model, the stage at which it falls, and a tensor that fails there.
PLANTED = {
    "numpy:MaskOneOff": ("attention", "forward", "probabilities"),
    "torch:MaskRolled": ("attention", "forward", "probabilities"),
    "numpy:MaskForgotten": ("attention", "forward", "probabilities"),
    "numpy:ScaledByUnits": ("attention", "forward", "probabilities"),
    "numpy:SoftmaxOverQueries": ("attention", "forward", "probabilities"),
    "numpy:ContextFirst": ("attention", "forward", "probabilities"),
    "numpy:AttendsBeforeTheStep": ("attention", "forward", "probabilities"),
    "numpy:OutputsOneOff": ("attention", "forward", "probabilities step by step"),
    "numpy:StateOneStepBehind": ("attention", "forward", "probabilities step by step"),
    "numpy:KeysNotTaught": ("attention", "gradients", "encoder/kernel"),
    "numpy:QueriesNotTaught": ("attention", "gradients", "decoder/kernel"),
    "numpy:SoftmaxNotCentred": ("attention", "gradients", "decoder/kernel"),
    "torch:OutputsDetached": ("attention", "gradients", "encoder/kernel"),
    "numpy:OutputsOfOtherRows": ("attention", "strings", "strings"),
    "numpy:Tied": ("transformer", "weights", "encoder/positions/kernel"),
    "numpy:SeesAPadding": ("transformer", "forward", "encoder_keys"),
    "numpy:Unscaled": ("transformer", "forward", "encoder_keys"),
    "numpy:SharesOverQueries": ("transformer", "forward", "encoder_keys"),
    "numpy:HeadsInterleaved": ("transformer", "forward", "encoder_keys"),
    "numpy:PositionsOneOff": ("transformer", "forward", "encoder_keys"),
    "numpy:EpsilonOfTorch": ("transformer", "forward", "encoder_keys"),
    "numpy:SeesTheNext": ("transformer", "forward", "probabilities"),
    "numpy:PositionStays": ("transformer", "forward", "probabilities step by step"),
    "numpy:CacheOneOff": ("transformer", "forward", "probabilities step by step"),
    "numpy:CacheForgotten": ("transformer", "forward", "probabilities step by step"),
    "numpy:ReluNotDerived": ("transformer", "gradients", "encoder/feed_forward/hidden/kernel"),
    "numpy:NewKeysNotTaught": ("transformer", "gradients", "decoder/attention/key/kernel"),
    "torch:MemoryDetached": ("transformer", "gradients", "encoder/characters/kernel"),
    "numpy:BatchesShuffled": ("transformer", "trajectory", "losses of 10 steps"),
    "numpy:CachesOfOtherRows": ("transformer", "strings", "strings"),
}


@pytest.mark.parametrize("target", PLANTED)
def test_planted_mistakes_are_caught_at_their_stage(
    cases_of: CasesOf, planted: Plant, target: str
) -> None:
    """In float32, whose bounds are the wide ones."""
    further, stage, tensor = PLANTED[target]
    cases = cases_of(UNITS, "mask", size=SMALL, model=further)
    found = compare_backends(cases, [planted(target)], ["float32"], Parity())
    failed = [check for check in found.checks if not check.passed]
    assert {check.stage for check in failed} == {stage}
    assert tensor in {check.tensor for check in failed}


def made_run(further: str, path: Path) -> RunDirectory:
    """A run with slots that are not zero."""
    config, data = replace(model("float32"), model=further), material("float32")
    weights = initial_state(config, 3).weights
    state = ModelState(weights, {name: np.abs(weight) for name, weight in weights.items()})
    return RunDirectory.create(path, "numpy", (config, SETTINGS, DataConfig()), data, state)


@pytest.mark.parametrize("further", FURTHER)
def test_states_and_weights_are_those_of_the_spec(further: str, cases_of: CasesOf) -> None:
    cases = cases_of(UNITS, "mask", size=SMALL, model=further)
    spec, answered = model_of(cases.model), cases.reference["forward"]
    for name, axes in spec.states.items():
        assert answered[name].shape[0] == SMALL.batch_rows
        assert answered[name].ndim == len(axes)
    for name, weight in spec.weights(cases.model).items():
        assert cases.fresh.weights[name].shape == weight.shape
        assert len(weight.axes) == len(weight.shape)


def nearest_to_a_corner(backend: Backend, emit: Emit) -> float:
    """The smallest magnitude that a ReLU was given in NumPy's last batch."""
    hidden = [
        backend.model.layers[name.removesuffix("/bias")]
        for name in rectified_biases(backend.config)
    ]
    return min(float(np.abs(layer(layer.inputs)).min()) for layer in hidden)


def test_no_number_of_a_case_is_at_the_corner_of_a_relu(cases_of: CasesOf) -> None:
    """Rounding would decide there whether it has a gradient."""
    cases = cases_of(UNITS, "mask", size=SMALL, model="transformer")
    cases.reference.ask(cases.by_stage["gradients"])
    assert cases.reference.process.call(nearest_to_a_corner) > 1e-4


@pytest.mark.at_length
@pytest.mark.parametrize("further", FURTHER)
@pytest.mark.parametrize("name", [name for name, entry in TABLE.items() if entry.group])
def test_a_group_trains_as_the_reference_alone(further: str, name: str) -> None:
    cases = Cases(DataConfig(), SETTINGS, UNITS, QUICK, Runtime(threads=1), "mask", 2, further)
    with cases, cases.start_group(name, "float64") as processes:
        arrays = StageArrays(processes[0], "float64", cases.by_stage)
        checks = list(Comparison(cases, arrays).of_group(processes))
    assert len(checks) == 2 + 2 * len(cases.fresh.weights)
    assert [check for check in checks if not check.passed] == []


@pytest.mark.parametrize("further", FURTHER)
def test_a_run_is_used_by_commands_or_refused_in_a_sentence(further: str, tmp_path: Path) -> None:
    run, small = tmp_path / "run", ["--num-samples", 200, "--latent-dim", 16, "--epochs", 1]
    numpy = ["--backend", "numpy"]
    answer("train", "--model", further, *numpy, *small, "--out", run)
    assert RunDirectory.open(run).model_config.model == further
    (greedy,) = answer("translate", run, *numpy, "Go.")["translations"]
    (searched,) = answer("translate", run, *numpy, "--beam", 2, "--n-best", 2, "Go.")[
        "translations"
    ]
    assert len(searched["n_best"]) == 2
    answer("convert", run, "--to", "weights", "--out", tmp_path / "weights")
    (again,) = answer("translate", tmp_path / "weights", *numpy, "Go.")["translations"]
    assert again["translation"] == greedy["translation"]
    assert answer("evaluate", run, *numpy)["rows"] == 40
    assert MODELS[further].title in rosetta("report", run)[1]
    for arguments, expected in {
        ("translate", run, "--backend", "keras:example", "Go."): "keras:example has no model "
        f"'{further}'",
        ("convert", run, "--to", "onnx"): f"the model is {further}, and graphs of ONNX hold lstm "
        "alone",
        ("train", "--resume", "--out", run, "--model", "lstm", "--epochs", 2): "was begun with "
        f"--model {further}",
        ("parity", "--model", further, "--backends", "keras:example"): "keras:example has no "
        f"model '{further}'",
    }.items():
        assert expected in refusal(2, *arguments)


@pytest.mark.parametrize("further", FURTHER)
def test_side_by_side_a_backend_without_the_model_is_left_out(further: str, tmp_path: Path) -> None:
    """As `translate --backend all` and `serve` have it."""
    run, warned = made_run(further, tmp_path / "run"), list[str]()
    names = ["numpy", "keras:example"]
    with open_side_by_side(run, "last", Runtime(threads=1), names, warned.append) as backends:
        (answers,) = backends.answers(["Go."], characters=True)
        assert [*answers] == ["numpy"]
        assert all(0 < at.probability <= 1 for at in answers["numpy"].characters)
    assert [warning.partition(" is left out")[0] for warning in warned] == ["keras:example"]


# Frameworks' own files


@pytest.fixture(params=FURTHER)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> RunDirectory:
    return made_run(request.param, tmp_path / "run")


@pytest.mark.parametrize("name", NATIVE)
def test_a_run_is_written_as_a_frameworks_files_and_read_again(
    run: RunDirectory,
    name: str,
    processes: Processes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The printed lines load the weights, too."""
    with Sharing(name, run.model_config, run.train_config, processes) as process:
        monkeypatch.setattr(converting, "BackendProcess", lambda *_: nullcontext(process))
        status, out, err = rosetta("convert", run.path, "--to", name)
        assert status == 0, err
        expected, _ = run.read_state("last")
        loaded = process.call(child.loaded, program=out.partition("load it:\n")[2])
        small_run.assert_same(loaded, expected.weights)
        # In the order in which a shell lists them.
        files = [
            path
            for path in sorted((tmp_path / f"run-{name}").glob("*.*"))
            if path.suffix not in (".keras", ".json")
        ]
        given = ["--from", *files, "--backend", name, "--vocabulary", run.path]
        status, _, err = rosetta("convert", tmp_path / "made", *given)
        assert status == 0, err
    small_run.assert_same(
        RunDirectory.open(tmp_path / "made").read_state("last")[0].arrays(), expected.arrays()
    )

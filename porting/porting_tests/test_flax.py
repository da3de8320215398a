"""Flax: a record has what Flax itself has, and leaves the model as it was."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from porting_tests.support import PORTING
from porting_tests.support.records import arrays, described
from porting_tests.support.side import Side, script
from rosetta_diff.read.side import Side as Recorded

# Of two names, and the one by which a weight is told; Flax knows the first alone.
TIED = {"again": "words.embedding"}


@pytest.fixture(scope="module")
def folder(side_of: Callable[[str], Side], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flax")
    arguments = ["script_of_flax.py", str(folder)]
    side_of("flax").do(
        script, folder=PORTING / "porting_tests" / "support", arguments=arguments, steps=1
    )
    return folder


def test_a_record_has_weights_and_layers_under_flaxs_names(folder: Path) -> None:
    weights, flax = arrays(folder / "training", "weights"), arrays(folder, "before")
    assert weights.keys() == {*flax, *TIED.values()}
    for name, array in weights.items():
        np.testing.assert_array_equal(array, flax.get(name, flax["again"]))
    says = described(folder / "training")
    assert says["framework"]["name"] == "flax"
    assert says["framework"]["backend"].startswith("JAX 0.")
    assert says["precision"] == "float64"
    assert says["weights"]["words.embedding"]["tied_to"] == "again"
    assert [name for name, weight in says["weights"].items() if not weight["trainable"]] == [
        "norm.mean",
        "norm.var",
    ]
    layers = {layer["path"]: layer for layer in says["layers"]}
    assert layers["rnn"]["classes"] == ["RNN", "GRUCell", "RNNCellBase"]
    assert layers["rnn"]["parameters"]["dense_i.kernel"] == "rnn.cell.dense_i.kernel"
    assert layers["norm"]["settings"]["momentum"] == 0.75
    assert layers["blocks.1"]["training"] is True
    called = [call["layer"] for call in says["calls"]]
    assert called == ["words", "tap words", "norm", "blocks.0", "blocks.1", ""]
    lines = [call["line"].partition(":")[0] for call in says["calls"]]
    assert set(lines) == {"script_of_flax.py"}


def test_a_training_leaves_the_model_as_it_was(folder: Path) -> None:
    np.testing.assert_equal(arrays(folder, "after"), arrays(folder, "before"))


def test_what_optax_hides_in_closures_and_states_is_recorded(folder: Path) -> None:
    side = Recorded(folder / "training")
    assert side.optimizer_kind == "AdamW"
    expected = {
        "learning_rate": 0.01,
        "beta_1": 0.875,
        "beta_2": 0.999,
        "epsilon": 1e-8,
        "weight_decay": 0.1,
    }
    assert {name: side.optimizer_settings.get(name) for name in expected} == expected
    assert side.optimizer.settings["clip_by_global_norm.max_norm"] == 1e-3
    assert side.counters == [1]


def test_a_hand_written_loop_with_optax_is_recorded_by_call(folder: Path) -> None:
    side = Recorded(folder / "calls")
    gradients = arrays(folder, "gradients")
    updated = arrays(folder, "updated")
    assert side.optimizer_kind == "SGD"
    assert (side.optimizer_settings["learning_rate"], side.optimizer_settings["momentum"]) == (
        0.5,
        0.25,
    )
    assert gradients
    for name, array in gradients.items():
        np.testing.assert_array_equal(side.arrays("gradients")[name], array)
    for name, array in updated.items():
        np.testing.assert_array_equal(side.arrays("step-1")[name], array)


def test_functions_without_modules_have_taps_and_weights(folder: Path) -> None:
    side, words = Recorded(folder / "functions"), arrays(folder, "updated")["again"]
    assert [call.layer for call in side.says.calls] == ["tap rows"]
    np.testing.assert_array_equal(side.arrays("weights")["words"], words)
    np.testing.assert_array_equal(
        side.arrays("layers")[side.says.calls[0].parts[0]], words[[[1, 2, 0], [3, 3, 4]]]
    )
    # The keys of a batch keep their order, where JAX sorts them.
    loss = (words[[[1, 2, 0], [3, 3, 4]]] ** 2).mean() + words[[[2, 2, 0], [4, 4, 4]]].mean()
    np.testing.assert_allclose(float(side.says.loss or 0), loss)
    np.testing.assert_allclose(
        side.arrays("step-1")["words"], words - 0.5 * side.arrays("gradients")["words"]
    )

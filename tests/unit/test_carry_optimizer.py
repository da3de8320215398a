"""`rosetta carry --optimizer`: a training goes on in another framework as if it had never left the first one."""

import subprocess
from collections.abc import Callable
from concurrent.futures import Future
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from benchmarks.ladder.carry import carried
from benchmarks.ladder.carry_optimizer import carried_optimizer, check_optimizer_file, write_optimizer
from benchmarks.ladder.diff import compare_records
from benchmarks.ladder.pair.pairing import paired
from benchmarks.ladder.read.record import Side as ReadSide
from benchmarks.ladder.report import lines
from common.errors import CannotBeginError
from tests.support.porting_pairs import ADAM, DENSE, SGD, WORDS, rounded, write_batches
from tests.support.porting_side import FRAMEWORKS, Side, run_program, train_halves
from tests.support.program import refusal, rosetta
from tests.support.records import DATA, RATE, SLOTS, Change, arrays, changed, edited, put, resaved, write

HALF = 5  # steps
BOUND = 1e-8
FILES = {"torch": "optimizer.pt", "paddle": "optimizer.pdopt", "keras": "optimizer.safetensors"}
LSTM = {"kind": "recurrent", "of": "lstm", "units": 4, "both": False, "cut": "both", "one_bias": True}
ATTENTION = {"kind": "attention", "heads": 2, "groups": 2, "size": 2, "cut": "framework"}
# With an epsilon that changes nothing, wherever it stands, RMSprop is the same everywhere.
RMSPROP = {**ADAM, "name": "rmsprop", "stock": True, "heavy": rounded(0.9), "epsilon": rounded(1e-30)}
TRAININGS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "sgd": (SGD, [DENSE]),
    "adam": ({**ADAM, "rate": rounded(0.01)}, [LSTM]),
    "adamw": ({**ADAM, "name": "adamw", "rate": rounded(0.01), "decay": rounded(0.01)}, [ATTENTION]),
    "rmsprop": ({**RMSPROP, "rate": rounded(0.01)}, [DENSE]),
}
# Each kind of optimizer goes from each framework to another, round one way or the other.
RINGS = [(*FRAMEWORKS, FRAMEWORKS[0]), (*FRAMEWORKS[::-1], FRAMEWORKS[-1])]
PAIRS = [(name, *pair) for name, ring in zip(TRAININGS, RINGS * 2, strict=True) for pair in pairwise(ring)]


def nothing(said: dict[str, Any]) -> None: ...


def config_of(name: str) -> dict[str, Any]:
    optimizer, blocks = TRAININGS[name]
    base = {"words": WORDS, "width": 4, "dtype": "float64", "training": True, "seed": 0}
    return {**base, "blocks": blocks, "optimizer": optimizer}


def asked(name: str, folder: Path, *moments: str) -> dict[str, Any]:
    batches = folder / "batches.safetensors"
    return {"config": config_of(name), "batches": batches, "steps": HALF, "moments": moments or ("loaded", "end")}


def second_half(side: Side, name: str, sides: tuple[ReadSide, ReadSide], folder: Path) -> Future[Any]:
    """Carry weights and optimizer into a folder and have the other framework go on with them."""
    pairing, weights, optimizer = paired(*sides), folder / "weights.safetensors", folder / FILES[sides[1].framework]
    folder.mkdir()
    save_file({key: np.ascontiguousarray(array) for key, array in carried(pairing).items()}, weights)
    state = carried_optimizer(pairing)
    check_optimizer_file(optimizer, weights, sides[1], state)
    write_optimizer(optimizer, sides[1], state)
    more = {"weights": weights, "optimizer": optimizer}
    return side.start(train_halves, folder=folder, **asked(name, folder.parent), **more)


def error(left_end: Path, right_end: Path) -> float:
    """The largest difference of both sides' weights."""
    got = load_file(right_end / "weights.safetensors")
    expected = carried(paired(ReadSide(left_end), ReadSide(right_end)))
    assert got.keys() == expected.keys()
    assert all(np.isfinite(array).all() for array in got.values())
    return max(float(np.abs(got[name] - array).max()) for name, array in expected.items())


@pytest.fixture
def started(side_of: Callable[[str], Side], monkeypatch: pytest.MonkeyPatch) -> dict[str, Side]:
    """The frameworks' processes. That of torch also writes torch's files, for which `carry` starts one."""
    sides = {name: side_of(name) for name in FRAMEWORKS}

    def run(command: list[str], **options: Any) -> "subprocess.CompletedProcess[str]":
        sides["torch"].do(run_program, text=command[2], arguments=command[3:])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return sides


def test_five_steps_carried_and_five_more_are_ten(started: dict[str, Side], tmp_path: Path) -> None:
    write_batches(tmp_path / "batches.safetensors")
    answers = []
    for name in TRAININGS:
        for framework, side in started.items():
            moments = asked(name, tmp_path, "start", "middle", "end")
            answers.append(side.start(train_halves, folder=tmp_path / f"{name}-{framework}", **moments))
    for answer in answers:
        answer.result()

    def read(name: str, framework: str, moment: str) -> ReadSide:
        return ReadSide(tmp_path / f"{name}-{framework}" / moment)

    answers = []
    for name, left, right in PAIRS:
        sides = read(name, left, "middle"), read(name, right, "start")
        answers.append(second_half(started[right], name, sides, tmp_path / f"{name}-{left}-{right}"))
    for answer in answers:
        answer.result()
    errors = {pair: error(read(*pair[:2], "end").path, tmp_path / "-".join(pair) / "end") for pair in PAIRS}
    assert {pair: found for pair, found in errors.items() if not found <= BOUND} == {}
    for pair in PAIRS:
        found = compare_records(read(*pair[:2], "middle"), ReadSide(tmp_path / "-".join(pair) / "loaded"))
        assert found.passed, (pair, found.explanation)
        assert found.climbed == ["weights", "step"]
    edited(read("adam", "torch", "middle").path, lambda said: said["optimizer"].update(counters=[HALF + 1]))
    sides = read("adam", "torch", "middle"), read("adam", "keras", "start")
    second_half(started["keras"], "adam", sides, tmp_path / "wrong").result()
    assert error(read("adam", "torch", "end").path, tmp_path / "wrong" / "end") > 1000 * BOUND


# Without a framework: records of mid-training that NumPy made


def middle(path: Path, framework: str, change: Change = nothing, data: dict[str, Any] = DATA) -> Path:
    """A record of five steps of Adam, in whose description something is changed."""
    write(path, framework, data)
    for file in ("gradients", "step-1", "step-last", "layers", "outputs"):
        (path / f"{file}.safetensors").unlink()
    keys = [*arrays(path, "slots")]
    kept = [key.partition("|")[0] for key in keys if key.endswith(f"|{SLOTS['momentum'][framework]}")]
    keys = ["|iteration", "|learning_rate", *keys] if framework == "keras" else kept

    def in_the_middle(said: dict[str, Any]) -> None:
        said.update(steps=[], calls=[], loss=None)
        said["optimizer"].update(counters=[HALF], keys={str(number): key for number, key in enumerate(keys)})
        change(said)

    return edited(path, in_the_middle)


def of_optimizer(**facts: Any) -> Change:
    """A change of the optimizer's facts; its settings are added to those that it has."""

    def change(said: dict[str, Any]) -> None:
        settings = said["optimizer"]["settings"] | facts.get("settings", {})
        said["optimizer"].update(facts | {"settings": settings})
        said.update({name: value for name, value in facts.items() if name == "precision"})

    return change


HALF_PRECISION = of_optimizer(settings={"_multi_precision": True}, precision="bfloat16")
MOMENTUM = {"class": "SGD", "settings": {"momentum": 0.9}}
SCHEDULED = {"class": "SGD", "settings": {"momentum": 0.9, "learning_rate": "Decay"}}
UNBUILT, EMA = {"0": "|iteration"}, {"0": "|iteration", "1": "fc/kernel|aver\nage"}
SGD_ALONE, LION = {"class": "SGD"}, {"class": "Lion"}


def of_optax(said: dict[str, Any]) -> None:
    said["framework"].update(name="flax")
    said["optimizer"].update(classes=["scale_by_adam", "scale"], keys={})


REFUSED: dict[str, tuple[Change, Change, str]] = {
    "no optimizer": (lambda said: said.update(optimizer=None), nothing, "left lacks the optimizer; record it"),
    "a former recorder": (nothing, of_optimizer(keys={}), "like lacks the optimizer; record it with the present"),
    "after a step": (
        lambda said: said.update(steps=[{"step": 1}]), nothing, "has the weights of before a step and the slots"
    ),
    "another kind": (of_optimizer(**SGD_ALONE), nothing, "left is SGD with no slots, and that of like is Adam with"),
    "a kind nobody carries": (of_optimizer(**LION), nothing, "is Lion, which is not carried; try SGD, Adam"),
    "a state of optax": (nothing, of_optax, "of like is Adam, which is not carried; try another framework"),
    "amsgrad": (nothing, of_optimizer(settings={"amsgrad": True}), "with the same momentum, centered, amsgrad"),
    "master weights": (HALF_PRECISION, nothing, "left keeps master weights, which are not carried"),
    "no counter": (of_optimizer(counters=[]), nothing, r'no step counter, .* as "counters": \[100000\]'),
    "two counters": (of_optimizer(counters=[4, 5]), nothing, "took 4 or 5 steps, and one counter is carried for all"),
    "not built": (nothing, of_optimizer(keys=UNBUILT), r"call optimizer.build\(model.trainable_variables"),
    "an average of weights": (nothing, of_optimizer(keys=EMA), r"keeps fc/kernel\|aver.*age, which is not carried"),
    "a schedule of rates": (of_optimizer(**MOMENTUM), of_optimizer(**SCHEDULED), "which is not one number"),
    "a weight that is not there": (nothing, of_optimizer(keys={"0": "x|momentum"}), "weights.safetensors has no x"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_an_optimizer_that_cannot_be_carried_is_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    of_left, of_like, words = REFUSED[name]
    left, like = middle(tmp_path / "left", "torch", of_left), middle(tmp_path / "like", "keras", of_like)
    with pytest.raises(CannotBeginError, match=words) as refused:
        carried_optimizer(paired(ReadSide(left), ReadSide(like)))
    assert "\n" not in str(refused.value)


def test_a_slot_of_another_shape_is_refused(tmp_path: Path) -> None:
    left, like = middle(tmp_path / "left", "torch"), middle(tmp_path / "like", "keras")
    resaved(left, "slots", lambda slots: slots | {"fc.weight|exp_avg": np.ones(3)})
    with pytest.raises(CannotBeginError, match=r"momentum of fc.weight in left is not of its weight's shape"):
        carried_optimizer(paired(ReadSide(left), ReadSide(like)))


def test_what_parts_afterwards_is_said(tmp_path: Path) -> None:
    left = middle(tmp_path / "left", "torch")
    like = middle(tmp_path / "like", "keras", of_optimizer(settings={"epsilon": 1e-7}))
    resaved(left, "slots", lambda slots: {key: slots[key] for key in slots if "fc.bias" not in key})
    remarks = carried_optimizer(paired(ReadSide(left), ReadSide(like))).remarks
    for words in (
        "no slots of 1 weight, such as fc/bias, which begin anew",
        "the optimizer's epsilon is 1e-08 on the left and 1e-07 on the right",
        "epsilon is added to the root after its bias is corrected on the left and",
        "lstm:l0: one side trains two biases",
    ):
        assert any(words in remark for remark in remarks), words


def test_the_command_writes_both_files_or_none(started: dict[str, Side], tmp_path: Path) -> None:
    left, like = middle(tmp_path / "left", "keras"), middle(tmp_path / "like", "torch")
    weights, optimizer = tmp_path / "w.safetensors", tmp_path / "o.pt"
    command = ["carry", left, "--to", "torch", "--like", like, "-o", weights, "--optimizer"]
    assert "give it the ending .pt" in refusal(2, *command, tmp_path / "o.pdopt")
    assert "are both" in refusal(2, *command, weights)
    assert not weights.exists()
    status, printed, _ = rosetta(*command, optimizer)
    assert (status, weights.exists(), optimizer.exists()) == (0, True, True)
    assert "torch.load reads it with weights_only=True, and optimizer.load_state_dict takes it" in " ".join(
        printed.split()
    )


@pytest.mark.parametrize("trained", [False, True])
def test_a_step_counter_that_is_off_by_one_is_named(trained: bool, tmp_path: Path) -> None:
    """In two records of mid-training, and in such of steps that come after it."""
    make: Any = (lambda path, name, change, data=DATA: edited(write(path, name, data), change)) if trained else middle
    off = changed(DATA, put("step-1 fc kernel", lambda kernel: kernel + RATE))
    left = make(tmp_path / "left", "torch", of_optimizer(counters=[5]))
    right = make(tmp_path / "right", "paddle", of_optimizer(counters=[6]), off)
    found = compare_records(ReadSide(left), ReadSide(right))
    assert found.broken == "step"
    assert found.control.passed
    assert "likely: the step counter is 5 on the left and 6 on the right" in "\n".join(lines(found))
    same = make(tmp_path / "same", "paddle", of_optimizer(counters=[5]))
    assert compare_records(ReadSide(left), ReadSide(same)).passed

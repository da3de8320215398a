"""A replay: each layer is judged by itself,
so all mistakes are named in one run and nothing else is."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from porting_tests.support.guide import rosetta
from porting_tests.support.pairs import random_pair, told
from porting_tests.support.records import (
    DATA,
    RATE,
    arrays,
    changed,
    compared,
    described,
    edited,
    put,
    resaved,
    write_tagger,
)
from porting_tests.support.replays import missed_and_others, places, port, replayed
from porting_tests.support.side import FRAMEWORKS, Side, run_program
from rosetta_diff.alone import STEP
from rosetta_diff.diff import Diff
from rosetta_diff.feed import checksum
from rosetta_diff.read.side import Side as Recorded
from rosetta_record import RecordError
from rosetta_record.replay import Feed

Data = dict[str, Any]
PORTS = ("decoder", "tagger from keras", "decoder to keras", "translator")
CORRECT = 3  # random pairs
# A model whose parts are called one by one, by names and with tuples,
# and which is recorded call by call.
BY_HAND = """
import sys
import numpy as np, torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from rosetta_record import Record

folder, feed, epsilon, turned = sys.argv[1], sys.argv[2] or None, float(sys.argv[3]), sys.argv[4]
torch.set_default_dtype(torch.float64)

class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(9, 6), nn.LSTM(6, 6, batch_first=True)
        self.norm = nn.BatchNorm1d(6)

    def forward(self, ids, lengths):
        vectors = self.embedding(ids)
        packed = pack_padded_sequence(vectors, lengths, batch_first=True, enforce_sorted=False)
        out, states = self.lstm(packed)
        out, _ = pad_packed_sequence(out, batch_first=True)
        return {"out": self.norm(out.mT).mT, "states": states}

class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 6, batch_first=True)
        self.norm = nn.LayerNorm(6, epsilon)
        self.head = nn.Linear(6, 9)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x, *, memory, state=None):
        x, _ = self.lstm(x, state)
        x = x + self.attention(x, key=memory, value=memory, need_weights=False)[0]
        return self.head(torch.relu_(self.norm(x)))

model = nn.ModuleDict({"encoder": Encoder(), "decoder": Decoder()})
rng = np.random.default_rng(0)
with torch.no_grad():
    for weight in model.parameters():
        weight.copy_(torch.tensor(rng.normal(size=tuple(weight.shape))))
ids = torch.tensor(rng.integers(0, 9, (4, 5)))
record = Record(folder, feed=feed)
record.inputs(ids=ids)
record.model(model)
made = model["encoder"](ids, torch.tensor([5, 3, 2, 5]))
out = made["out"].flip(1) if turned else made["out"]
logits = model["decoder"](out, memory=made["out"], state=made["states"])
record.forward(logits=logits)
logits.sum().backward()
record.gradients(model)
# The model was put back after the replay.
assert int(model["encoder"].norm.num_batches_tracked) == 1
"""

# On the right the first convolution pads by mistake, and one pool, which lacks the ceiling, is used
# twice. Another pool lacks it without effect.
POOLS = """
import sys
import torch
from torch import nn
from rosetta_record import Record

folder, feed, is_right = sys.argv[1], sys.argv[2] or None, sys.argv[3] == "right"
torch.set_default_dtype(torch.float64)
torch.manual_seed(0)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3, 2)
        self.second = nn.Conv2d(2, 3, 1)
        self.third = nn.Conv2d(3, 2, 1)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=not is_right)
        self.other = None if is_right else nn.MaxPool2d(3, 2, ceil_mode=True)
        self.relu = torch.relu if is_right else nn.ReLU()

    def forward(self, x):
        x = self.second(self.pool(self.relu(self.first(x))))
        return self.third((self.other or self.pool)(x)).mean((2, 3))

def loss_of(model, x):
    return model(x).square().mean()

images = torch.randn(2, 1, 33, 33)
Record(folder, feed=feed).training(Net(), [images], loss_of, torch.optim.SGD, steps=1)
"""
# Without blocks, so that nothing becomes the left one's between them, a sum goes through the model.
# On the right the second and the fifth activation are missing.
RESIDUALS = """
import sys
import torch
from torch import nn
from rosetta_record import Record

folder, feed, is_right = sys.argv[1], sys.argv[2] or None, sys.argv[3] == "right"
torch.set_default_dtype(torch.float64)
torch.manual_seed(0)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(8))

    def forward(self, x):
        for number, layer in enumerate(self.layers):
            made = layer(x)
            x = x + (made if is_right and number in (1, 4) else torch.relu(made))
        return x

def loss_of(model, x):
    return model(x).square().mean()

record = Record(folder, feed=feed)
record.training(Net(), [torch.randn(5, 6)], loss_of, torch.optim.SGD, steps=1)
"""
# A layer keeps two tensors, which Paddle has among its buffers;
# the attention weights only where layers are fed.
KEEPS = """
import sys
import numpy as np, paddle
from paddle import nn
from rosetta_record import Record

folder, feed = sys.argv[1], sys.argv[2] or None

class Attention(nn.Layer):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        self.mask = paddle.tril(paddle.ones([5, 5], x.dtype))
        scores = paddle.matmul(self.query(x), self.key(x), transpose_y=True)
        self.attention_weights = nn.functional.softmax(scores - 1e9 * (1 - self.mask))
        return self.attention_weights @ self.value(x)

paddle.seed(0)
x = paddle.to_tensor(np.random.default_rng(0).normal(size=(2, 5, 4)))
Record(folder, feed=feed).training(
    Attention(),
    [x],
    lambda model, x: (model(x) ** 2).mean(),
    lambda weights: paddle.optimizer.Adam(parameters=weights),
    steps=2,
)
"""


@pytest.fixture(scope="module")
def found(
    side_of: Callable[[str], Side], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, Diff]]:
    """The comparison of each port, and the folder of its records."""
    folder = tmp_path_factory.mktemp("ports")
    pairs = [port(name)[0] for name in PORTS]
    diffs = replayed(pairs, {name: side_of(name) for name in FRAMEWORKS}, folder)
    return {
        name: (folder / pair.name, diff)
        for name, pair, diff in zip(PORTS, pairs, diffs, strict=True)
    }


@pytest.mark.parametrize("name", PORTS)
def test_exactly_the_mistakes_of_a_port_are_named_in_one_run(
    found: dict[str, tuple[Path, Diff]], name: str
) -> None:
    (_, diff), (_, patterns) = found[name], port(name)
    assert missed_and_others(diff, patterns) == ([], []), told(diff)
    assert diff.replay
    assert not diff.passed
    for words in ("called by", "on the left by"):
        assert re.search(
            rf"^    {words} (porting_tests/support/)?\w+.py:\d+: .*\(", told(diff), re.MULTILINE
        )


def test_every_layer_of_a_correct_pair_is_judged_right(
    started: dict[str, Side], tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    pairs = [random_pair(rng, number) for number in range(CORRECT)]
    for pair, diff in zip(pairs, replayed(pairs, started, tmp_path, mapped=True), strict=True):
        assert diff.replay, pair
        assert not places(diff), f"{pair}: {told(diff)}"


def test_parts_called_one_by_one_are_replayed(started: dict[str, Side], tmp_path: Path) -> None:
    def run(name: str, feed: str, epsilon: str, turned: str) -> None:
        arguments = [str(tmp_path / name), feed, epsilon, turned]
        started["torch"].do(run_program, text=BY_HAND, arguments=arguments)

    run("left", "", "1e-5", "")
    run("right", "", "1e-3", "turned")
    plain = arrays(tmp_path / "right", "layers")
    assert "feed has what" in rosetta(tmp_path, ["diff", "left", "right", "--feed", "feed"])[0]
    run("right", str(tmp_path / "feed"), "1e-3", "turned")
    # The whole model is recorded as without a feed.
    for name, array in arrays(tmp_path / "right", "layers").items():
        np.testing.assert_array_equal(array, plain[name], err_msg=name)
    diff = compared(tmp_path / "left", tmp_path / "right")
    assert sorted(places(diff)) == ["decoder is given another x", "decoder.norm gives"]
    assert diff.replay
    assert diff.replay.not_judged == {
        "decoder.lstm": "since it is given something else, which comes first"
    }


def replayed_alone(side: Side, text: str, folder: Path) -> Diff:
    """The comparison of a program's records, of which the right one has a replay, too."""
    for name, feed in (("left", ""), ("right", ""), ("right", str(folder / "feed"))):
        if feed:
            rosetta(folder, ["diff", "left", "right", "--feed", "feed"])
        side.do(run_program, text=text, arguments=[str(folder / name), feed, name])
    return compared(folder / "left", folder / "right")


def test_a_pool_is_told_at_what_the_next_layer_is_given(
    started: dict[str, Side], tmp_path: Path
) -> None:
    diff = replayed_alone(started["torch"], POOLS, tmp_path)
    assert diff.replay
    assert places(diff) == ["second is given another input"]
    assert "first" in diff.replay.judged
    assert diff.replay.not_judged == {
        "third": "since it comes after second, which is wrong",
        "": "since it holds second, which is wrong",
    }
    ceiling = "of pool ceil_mode is True on the left and False on the right"
    (replayed_causes,) = diff.replay.causes.values()
    assert ceiling in [cause.sentence for cause in diff.causes]
    assert [cause.sentence for cause in replayed_causes] == [ceiling]


def test_a_tensor_that_a_layer_keeps_is_no_weight(started: dict[str, Side], tmp_path: Path) -> None:
    diff = replayed_alone(started["paddle"], KEEPS, tmp_path)
    assert (
        arrays(tmp_path / "right", "step-1").keys() == arrays(tmp_path / "right", "weights").keys()
    )
    assert diff.replay
    assert (diff.passed, places(diff), diff.replay.not_judged) == (True, [], {})


def test_a_difference_that_a_residual_carries_on_is_told_once(
    started: dict[str, Side], tmp_path: Path
) -> None:
    """The second mistake makes another difference of it, which is told."""
    diff = replayed_alone(started["torch"], RESIDUALS, tmp_path)
    assert diff.replay
    assert places(diff) == ["layers.2 is given another input", "layers.5 is given another input"]
    again = "since it is given the difference of layers.{} again, as by a residual"
    carried = {3: 2, 4: 2, 6: 5, 7: 5}
    assert diff.replay.not_judged == {
        "": "since it holds layers.5, which is wrong",
        **{f"layers.{later}": again.format(first) for later, first in carried.items()},
    }


def test_a_layer_that_differs_in_a_replay_alone_is_told(
    started: dict[str, Side], tmp_path: Path
) -> None:
    """The whole model agrees; where it does not, the layer is wrong."""
    replayed_alone(started["paddle"], KEEPS, tmp_path)
    left, right = tmp_path / "left", tmp_path / "right"
    call = next(c for c in described(right / "replay")["calls"] if c["layer"] == "value")
    resaved(right / "replay", "layers", lambda of: of | {(p := call["parts"][0]): of[p] + 1})
    diff = compared(left, right)
    words = "places that differ though what the model gives agrees, since they are cut, masked or"
    assert diff.passed
    assert words in told(diff)
    resaved(right, "layers", lambda of: {name: array + 1 for name, array in of.items()})
    diff = compared(left, right)
    assert (diff.passed, words in told(diff)) == (False, False)
    assert "value gives" in places(diff)


@pytest.fixture
def records(found: dict[str, tuple[Path, Diff]], tmp_path: Path) -> Path:
    """A folder with copies of the records of a port."""
    shutil.copytree(found["decoder"][0], tmp_path / "both")
    return tmp_path / "both"


@pytest.mark.parametrize("file", ["layers", "gradients"])
def test_a_replay_that_another_record_fed_is_not_judged(file: str, records: Path) -> None:
    resaved(
        records / "left", file, lambda arrays: {name: array + 1 for name, array in arrays.items()}
    )
    diff = compared(records / "left", records / "right")
    assert diff.replay is None
    assert "right was fed by another record than left; --feed writes a feed anew" in diff.notes


def test_a_weight_of_another_shape_leaves_the_others_judged(records: Path) -> None:
    norm = next(
        name
        for name, array in arrays(records / "right" / "replay", "weights").items()
        if array.ndim == 1
    )
    resaved(records / "right" / "replay", "weights", lambda found: found | {norm: np.ones(1)})
    diff = compared(records / "left", records / "right")
    assert diff.replay
    assert STEP in diff.replay.judged


def write_replayed(folder: Path, data: Data, right: Data, replay: Data) -> tuple[Path, Path]:
    """Taggers of torch and of Keras, the right one with a replay that was fed by the left one."""
    paths = (
        write_tagger(folder / "torch", "torch", data),
        write_tagger(folder / "keras", "keras", right),
    )
    write_tagger(paths[1] / "replay", "keras", replay)
    edited(paths[1] / "replay", lambda said: said.update(fed=checksum(Recorded(paths[0]))))
    return paths


def test_no_layer_is_judged_where_most_weights_differ(tmp_path: Path) -> None:
    left, right = write_replayed(tmp_path, DATA, DATA, DATA)
    resaved(right, "weights", lambda weights: {name: array + 1 for name, array in weights.items()})
    diff = compared(left, right)
    assert (diff.broken, diff.replay) == ("weights", None)
    assert "no layer is judged by itself, since most weights differ" in told(diff)


@pytest.mark.parametrize(("gradient", "passes"), [(1e-18, True), (1e-3, False)])
def test_a_wrong_step_passes_only_if_its_gradient_is_rounding(
    gradient: float, passes: bool, tmp_path: Path
) -> None:
    """The whole model's step agrees, since both sides have the same weights after it."""
    data = changed(DATA, put("gradients fc bias", lambda bias: np.full_like(bias, gradient)))
    replay = changed(data, put("step-1 fc bias", lambda bias: bias + RATE))
    diff = compared(*write_replayed(tmp_path, data, data, replay))
    assert diff.replay
    assert {check.passed for check in diff.checks} == {True}
    assert [one.layer for one in diff.replay.wrong] == ([] if passes else [STEP])
    assert diff.passed == passes
    assert ("keras computes what torch computes" in told(diff)) == passes
    assert (
        "the optimizer's step of fc bias, whose gradient is rounding alone" in told(diff)
    ) == passes


def test_a_running_mean_is_no_part_of_the_optimizers_step(tmp_path: Path) -> None:
    replay = changed(DATA, put("step-1 bn moving_mean", lambda mean: 1.1 * mean))
    diff = compared(*write_replayed(tmp_path, DATA, DATA, replay))
    assert places(diff) == ["the running statistics after a step in bn moving_mean"]


@pytest.mark.parametrize(("times", "broken"), [(1, None), (2, "loss")])
def test_rules_that_a_replay_needed_are_told_once(
    times: int, broken: str | None, tmp_path: Path
) -> None:
    """The whole model needs them, too, unless it parts before."""
    right = changed(DATA, put("loss", lambda loss: times * loss))
    diff = compared(*write_replayed(tmp_path, DATA, right, DATA))
    assert diff.replay
    assert diff.broken == broken
    assert [line[:25] for line in diff.replay.remarks] == (
        ["converted, step: running "] if broken else []
    )
    assert told(diff).count("converted, step: running variances of bn moving_variance") == 1


def test_a_model_is_not_judged_after_a_layer_in_it_that_was_not_fed(records: Path) -> None:
    """The feed may lack a layer's output, as where the right one had another shape
    when the feed was written."""
    both = records / "left", records / "right"
    before = compared(*both)
    assert before.replay
    unfed = next(place.layer for place in before.replay.wrong if place.words.startswith("is given"))
    edited(
        both[1] / "replay",
        lambda said: [c.update(fed_outputs=[]) for c in said["calls"] if c["layer"] == unfed],
    )
    (output,) = described(both[1] / "replay")["calls"][-1]["parts"]
    resaved(both[1] / "replay", "layers", lambda found: found | {output: found[output] + 1})
    after = compared(*both)
    assert after.replay
    assert places(after) == places(before)
    assert after.replay.not_judged[""] == f"since it holds {unfed}, which is wrong"


def test_an_impossible_feed_is_refused(records: Path) -> None:
    for name in ("mine", "pipe"):
        (records / name).mkdir()
    (records / "mine" / "feed.safetensors").write_bytes(foreign := save({"x": np.ones(2)}))
    os.mkfifo(records / "pipe" / "feed.safetensors")
    for name in ("left", "mine", "pipe"):
        assert rosetta(records, ["diff", "left", "right", "--feed", name]) == [
            f"rosetta-diff: {name} exists and is no feed; give --feed the name of a new folder"
        ]
    assert (records / "mine" / "feed.safetensors").read_bytes() == foreign
    # Once more.
    assert "feed has what" in rosetta(records, ["diff", "left", "right", "--feed", "right.feed"])[0]
    assert "feed=a?b" in rosetta(records, ["diff", "left", "right", "--feed", "a\33b"])[0]
    whole = arrays(records / "left", "gradients")
    name = next(name for name in whole if whole[name].ndim == 2)
    resaved(records / "left", "gradients", lambda found: found | {name: np.ones((1, 1))})
    assert rosetta(records, ["diff", "left", "right", "--feed", "new"]) == [
        f"rosetta-diff: the gradient of {name} in left has the shape (1, 1), expected "
        f"{whole[name].shape}; record it again"
    ]
    # As records of before have no inputs of layers.
    edited(records / "left", lambda said: [call.pop("inputs") for call in said["calls"]])
    assert rosetta(records, ["diff", "left", "right", "--feed", "new"]) == [
        "rosetta-diff: left has no inputs of layers; record it again with today's rosetta_record"
    ]


def test_a_feed_of_another_model_is_refused_in_a_sentence(
    started: dict[str, Side], tmp_path: Path
) -> None:
    for name in ("left", "right"):
        started["torch"].do(run_program, text=POOLS, arguments=[str(tmp_path / name), "", name])
    rosetta(tmp_path, ["diff", "left", "right", "--feed", "feed"])
    another = POOLS.replace("nn.Conv2d(3, 2, 1)", "nn.Conv2d(3, 4, 1)")
    with pytest.raises(
        RuntimeError,
        match="feed is of another model: the names or shapes of its weights are others",
    ):
        started["torch"].do(
            run_program,
            text=another,
            arguments=[str(tmp_path / "right"), str(tmp_path / "feed"), ""],
        )


def test_a_feed_is_not_trusted(records: Path) -> None:
    path = records / "right.feed" / "feed.safetensors"
    pickle = b"\x80\x04cos\nsystem\n(S'true'\ntR."
    for damaged in (save({"outputs 0 head|0": np.ones(2)}), path.read_bytes()[:-8], pickle):
        path.write_bytes(damaged)
        with pytest.raises(
            RecordError,
            match=r"holds no feed: .*; rosetta-diff LEFT RIGHT --feed "
            r"writes one",
        ):
            Feed(path.parent)
    path.unlink()
    with pytest.raises(RecordError, match="holds no feed"):
        Feed(path.parent)

"""The register of deviations: whole, with sources that exist,
and true of the layers it speaks of."""

import importlib.util
import re
from pathlib import Path

import pytest

from backends.process.parent import PROJECT
from tests.conftest import StartBackend
from tests.support import child

TABLE, *SECTIONS = (PROJECT / "docs" / "deviations.md").read_text(encoding="utf-8").split("\n## ")
# Its lines after the first are indented.
FIELD = re.compile(r"^- \*\*(.+?)\*\*:(.*(?:\n  .+)*)", re.MULTILINE)
ENTRIES = {
    section.partition("\n")[0]: {
        name: " ".join(text.split()) for name, text in FIELD.findall(section)
    }
    for section in SECTIONS
}


def test_the_table_has_every_entry_with_frameworks_and_stage() -> None:
    rows = re.findall(r"^\| \[(.+)\]\(#(.+)\) \| \w.* \| \w+ \|$", TABLE, re.MULTILINE)
    assert rows == [(name, name) for name in ENTRIES]
    assert len(ENTRIES) == len(SECTIONS), "each name is another"


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_is_whole_and_its_sources_exist(name: str) -> None:
    """A source is an issue, or a symbol in an installed file."""
    assert re.fullmatch(r"[a-z0-9-]+", name)
    assert list(ENTRIES[name]) == ["Rosetta", "Source"]
    assert ENTRIES[name]["Rosetta"]
    sources = re.findall(r"`(\S+)`|\[\S+\]\((\S+)\)", ENTRIES[name]["Source"])
    assert sources
    for inside, issue in sources:
        if issue:
            assert re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+/(issues|pull)/\d+", issue)
            continue
        file, _, symbol = inside.partition("::")
        package, _, path = file.partition("/")
        spec = importlib.util.find_spec(package)
        assert spec is not None, f"{package} is not installed"
        assert spec.origin is not None
        text = (Path(spec.origin).parent / path).read_text(encoding="utf-8")
        assert re.search(rf"\b{re.escape(symbol)}\b", text), inside


# By framework a program that fails where its layers compute otherwise than the register says.
LAYERS = {
    "torch": """
import torch
x = torch.linspace(-2.9, 2.9, 9, dtype=torch.float64, requires_grad=True)
gate = torch.nn.functional.hardsigmoid(x)
gate.sum().backward()
assert (gate - (x / 6 + 0.5)).abs().max() < 1e-15
assert (x.grad == torch.tensor(1 / 6, dtype=torch.float32).double()).all()
""",
    "paddle": """
import numpy as np, paddle
paddle.set_default_dtype("float64")
x, slope, epsilon = np.linspace(-2.9, 2.9, 9), float(np.float32(0.1666667)), float(np.float32(1e-5))
given = paddle.to_tensor(x, stop_gradient=False)
gate = paddle.nn.Hardsigmoid()(given)
gate.sum().backward()
assert (gate.numpy() == x * slope + 0.5).all() and (given.grad.numpy() == slope).all()
rows = np.random.default_rng(0).normal(size=(5, 8)) * 1e-3
def off(made, epsilon):
    right = (rows - rows.mean(1, keepdims=True)) / np.sqrt(rows.var(1, keepdims=True) + epsilon)
    return np.abs(made.numpy().reshape(right.shape) - right).max() / np.abs(right).max()
tensor, image = paddle.to_tensor(rows), paddle.to_tensor(rows.T[None])
for made in (paddle.nn.LayerNorm(8)(tensor), paddle.nn.BatchNorm1D(5)(image.transpose([0, 2, 1])),
             paddle.nn.InstanceNorm1D(5)(image.transpose([0, 2, 1]))):
    assert off(made, epsilon) < 1e-14 and off(made, 1e-5) > 1e-9
made = paddle.nn.GroupNorm(1, 8)(tensor)
assert off(made, 1e-5) < 1e-14 and off(made, epsilon) > 1e-9
batch = paddle.nn.BatchNorm(5)
assert batch.weight.dtype == paddle.float32
assert paddle.nn.BatchNorm1D(5).weight.dtype == paddle.float64
try:
    batch(image.transpose([0, 2, 1]).unsqueeze(-1))
except ValueError as error:
    assert "(float64) does not match the type of data (float32)" in str(error)
else:
    raise AssertionError("it takes float64")
nn = paddle.nn
pools = (nn.AdaptiveAvgPool2D(1), 1 / 9), (nn.AvgPool2D(3), 1 / 9), (nn.AvgPool2D(2), 1 / 4)
for pool, share in pools:
    given = paddle.ones([1, 1, 3, 3])
    given.stop_gradient = False
    pooled = pool(given)
    pooled.sum().backward()
    assert pooled.item() == 1.0 and given.grad.numpy()[0, 0, 0, 0] == float(np.float32(share))
drop = paddle.vision.models.squeezenet1_1()._drop
drop.eval()
assert (drop(tensor).numpy() == rows / 2).all()
""",
}


@pytest.mark.parametrize("framework", LAYERS)
def test_what_is_said_of_layers_is_what_they_compute(
    backend_of: StartBackend, framework: str, tmp_path: Path
) -> None:
    backend_of(framework, "float64").call(
        child.run_script, text=LAYERS[framework], folder=tmp_path, arguments=[]
    )

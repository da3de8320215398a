"""docs/adding_a_backend.md: its steps, taken in a copy of the project, add a backend."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from backends.process.parent import PROJECT

NAME = "mimic"
MODEL, PROFILER = f"backends/{NAME}_model.py", f"backends/profiling/{NAME}.py"
ENTRY = f'    "{NAME}": Entry("backends.{NAME}_model", "{NAME}", "{NAME}"),\n'
# The framework that is made up for this test: NumPy under another name.
FRAMEWORK = 'from numpy import *\n__version__ = "1.0"\n'
# Of NumPy's model file: what has the gates in the order o, i, f, c, in place of i, f, c, o.
OTHER_ORDER = {
    "gates[:, :2] = sigmoid(gates[:, :2])": "gates[:, :3] = sigmoid(gates[:, :3])",
    "gates[:, 2] = np.tanh(gates[:, 2])": "gates[:, 3] = np.tanh(gates[:, 3])",
    "            gates[:, 3] = sigmoid(gates[:, 3])\n": "",
    "i, f, candidate, o = (": "o, i, f, candidate = (",
    "d_gates[t, :, 3] = d_h": "d_gates[t, :, 0] = d_h",
    "d_gates[t, :, 2] = d_new_c * i": "d_gates[t, :, 3] = d_new_c * i",
    "d_gates[t, :, 1] = d_new_c * self": "d_gates[t, :, 2] = d_new_c * self",
    "d_gates[t, :, 0] = d_new_c": "d_gates[t, :, 1] = d_new_c",
}


def project_file(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


PAGE = project_file("docs/adding_a_backend.md")
SKELETON, TWO_LAYOUTS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def like_numpys(name: str) -> str:
    """A file of the new backend, written as this one of NumPy's,
    but with all calls made to the new framework."""
    text = project_file(name).replace("Numpy", "Mimic")
    return text.replace("import numpy as np", f"import {NAME} as np").replace(
        "from numpy ", f"from {NAME} "
    )


def model_file() -> str:
    """NumPy's model file with the gates in another order,
    and the page's two functions in place of `layout`.

    Its further functions and classes have the underscore that the page asks for.
    """
    text = like_numpys("backends/numpy_model.py")
    for gates, others in OTHER_ORDER.items():
        assert gates in text
        text = text.replace(gates, others)
    text = re.sub(
        r"\b(Lstm|log_softmax|sigmoid)\(", r"_\1(", text.replace("class Lstm:", "class _Lstm:")
    )
    return re.sub(
        r"^def layout\(.*?(?=\n\n\n)", TWO_LAYOUTS.rstrip(), text, flags=re.MULTILINE | re.DOTALL
    )


def changed(name: str, before: str, line: str) -> str:
    text = project_file(name)
    assert text.count(before) == 1
    return text.replace(before, before + line)


def test_the_skeleton_has_the_names_of_every_model_file_in_order() -> None:
    def names(code: str) -> list[str]:
        kinds = (ast.FunctionDef, ast.ClassDef)
        return [node.name for node in ast.parse(code).body if isinstance(node, kinds)]

    def fields(code: str) -> list[str]:
        return [
            node.target.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.AnnAssign)
        ]  # type: ignore[union-attr]

    assert names(SKELETON) == names(project_file("backends/torch_model.py"))
    assert fields(SKELETON) == fields(project_file("backends/torch_model.py"))
    assert names(TWO_LAYOUTS) == ["layout", "canonical"]


def test_the_steps_of_the_page_add_a_backend(tmp_path: Path) -> None:
    """Parity needs the model file and a line of the table, and is tried before the other steps."""
    copy, framework = tmp_path / "project", tmp_path / "framework"
    copy.mkdir()
    framework.mkdir()
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True
    ).stdout
    subprocess.run(
        ["xargs", "-0", "cp", "--parents", "-t", copy], cwd=PROJECT, input=tracked, check=True
    )
    (framework / f"{NAME}.py").write_text(FRAMEWORK, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": f"{copy}{os.pathsep}{framework}"}
    written = set()

    def write(name: str, text: str) -> None:
        (copy / name).write_text(text, encoding="utf-8")
        written.add(name)

    def python(*arguments: str) -> str:
        """Run Python in the copy, and return what it prints."""
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    write(MODEL, model_file())
    write("backends/__init__.py", changed("backends/__init__.py", "TABLE = {\n", ENTRY))
    # It trains and translates, too.
    small = ["--quick", "--latent-dim", "16", "--threads", "1", "--json"]
    parity = json.loads(
        python("-m", "rosetta", "parity", "--backends", NAME, *small).splitlines()[-1]
    )
    assert parity["passed"]
    assert {check["backend"] for check in parity["checks"]} == {NAME}
    facts = json.loads(python("-m", "rosetta", "backends", NAME, "--json"))["backends"][NAME]
    assert (facts["version"], facts["settings"]) == ("1.0", {}), "no profiler tells more"
    extra = changed("pyproject.toml", "[project.optional-dependencies]\n", f"{NAME} = []\n")
    write("pyproject.toml", extra.replace('all = ["rosetta-s2s[', f'all = ["rosetta-s2s[{NAME},'))
    write(PROFILER, like_numpys("backends/profiling/numpy.py"))
    tested = ["frameworks/test_models.py", "frameworks/test_profiling.py", "unit/test_structure.py"]
    python(
        "-m",
        "pytest",
        "--quiet",
        *[f"tests/{name}" for name in tested],
        "-k",
        f"{NAME} or structure",
    )
    # The page's steps write or change these files; a file that is only to be read is a link.
    steps = PAGE.partition("## The skeleton")[0].replace("NAME", NAME)
    listed = re.findall(r"(?<!\[)`([\w/]+\.(?:py|toml))`", steps)
    assert {name for name in listed if not name.startswith("tests/")} == written

"""Keras on torch, which computes in float32 where the model's weights are of float64."""

import subprocess
import sys
from pathlib import Path

from backends.process.parent import PROJECT


def test_a_model_of_float64_is_held_to_the_precision_in_which_keras_computes(tmp_path: Path) -> None:
    right, keras, wrong = (str(tmp_path / name) for name in ("torch-side", "keras-side", "torch-wrong"))
    subprocess.run([sys.executable, "-m", "tests.keras_on_torch", right, keras, wrong], cwd=PROJECT, check=True)

    for side, status in ((right, 0), (wrong, 1)):
        command = [sys.executable, "-P", PROJECT / "rosetta.py", "diff", side, keras]
        found = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        assert found.returncode == status, found.stdout
        assert "keras-side computes in float32, though its weights are of float64" in found.stdout
        assert ("keras-side breaks at forward" in found.stdout) == bool(status)

"""Two deviations of speed that the environment of our processes sets right."""

import pytest

from backends.process.environment import child_environment
from backends.process.runtime import Runtime
from tests.conftest import SETTINGS, model


def test_tensorflow_has_onednn_on_any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    assert "TF_ENABLE_ONEDNN_OPTS" not in child_environment("default", 1, "cpu")
    assert child_environment("matched", 1, "cpu")["TF_ENABLE_ONEDNN_OPTS"] == "1"
    with Runtime(threads=1).start("keras", model("float32"), SETTINGS) as process:
        assert process.facts.settings["onednn"] is True


@pytest.mark.parametrize(("is_amd", "expected"), [(True, "5"), (False, None)])
def test_paddles_mkl_is_told_the_type_of_an_amd_processor(
    monkeypatch: pytest.MonkeyPatch, is_amd: bool, expected: str | None
) -> None:
    monkeypatch.delenv("MKL_DEBUG_CPU_TYPE", raising=False)
    monkeypatch.setattr("backends.process.environment.is_amd", lambda: is_amd)
    assert child_environment("matched", 1, "cpu").get("MKL_DEBUG_CPU_TYPE") == expected
    assert "MKL_DEBUG_CPU_TYPE" not in child_environment("default", 1, "cpu")

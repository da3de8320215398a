"""The engine's profiler and facts, with Keras's version, for Keras under one of its engines."""

from collections.abc import Callable
from functools import cached_property
from pkgutil import resolve_name
from typing import Any

import keras

from backends.profiling import Profiled, Profiling

ENGINES = {
    "tensorflow": "backends.profiling.keras:KerasProfiling",
    "jax": "backends.profiling.jax:JaxProfiling",
    "torch": "backends.profiling.torch:TorchProfiling",
}


class EngineProfiling(Profiling):
    @cached_property
    def engine(self) -> Profiling:
        profiling: Profiling = resolve_name(ENGINES[keras.backend.backend()])(self.backend)
        return profiling

    def traced(self, train: Callable[[], float]) -> Profiled:
        return self.engine.traced(train)

    def describe(self) -> dict[str, Any]:
        described, engine = self.engine.describe(), keras.backend.backend()
        if engine != "tensorflow":  # of which Keras's own profiling tells both versions
            described["version"] = f"{keras.__version__}, {engine} {described['version'].partition(',')[0]}"
        described["settings"] |= self.backend.own_settings
        return described

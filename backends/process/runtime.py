"""With how many threads, on which device and in which interpreter a backend's process runs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from backends import TABLE
from backends.process.parent import SILENCE, BackendProcess
from common.config import ModelConfig, TrainConfig
from common.errors import RosettaError

SECONDS_A_ROW = 0.2  # allowed for each row that a call goes through in silence; several times what 1,024 units need
SECONDS_A_SENTENCE = 60.0  # allowed for each sentence that a call decodes; far more than the slowest way needs


@dataclass(frozen=True)
class Runtime:
    """The threads, device and interpreter of a backend's process; they change no mathematics."""

    threads: int | None = None  # None: all cores
    device: str = "cpu"
    lane: str = "matched"
    python: str | None = None  # the interpreter; None: this one

    def start(
        self, backend: str, model: ModelConfig, train: TrainConfig, group: Mapping[str, str] | None = None
    ) -> BackendProcess:
        """Start the backend's process; `group` holds the variables by which it joins a group of workers, if any."""
        return BackendProcess(
            backend,
            model,
            train,
            threads=self.threads,
            device=self.device,
            lane=self.lane,
            python=self.python,
            group=group,
        )


def silence(rows: int) -> float:
    """Seconds that a process may need to go through so many rows; it may say nothing meanwhile."""
    return SILENCE + SECONDS_A_ROW * rows


def describe_backends(runtime: Runtime) -> dict[str, dict[str, Any]]:
    """The facts that each backend of the table reports of itself, or as `missing` the reason why it cannot start."""
    model = ModelConfig(num_encoder_tokens=2, num_decoder_tokens=3, start_token=0, stop_token=1, latent_dim=4)
    found: dict[str, dict[str, Any]] = {}
    for name in TABLE:
        try:
            with runtime.start(name, model, TrainConfig()) as process:
                found[name] = asdict(process.facts)
        except RosettaError as error:  # not there, or there and broken
            found[name] = {"missing": str(error)}
    return found

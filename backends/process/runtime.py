"""With how many threads, on which device and in which interpreter a backend's process runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from backends.process.parent import SILENCE, BackendProcess
from backends.process.starting import started_side_by_side
from common.config import ModelConfig, TrainConfig

SECONDS_A_ROW = 0.2  # allowed for each row that a call goes through in silence; several times what 1,024 units need
SECONDS_A_SENTENCE = 60.0  # allowed for each sentence that a call decodes; far more than the slowest way needs

Variables = Mapping[str, str] | None  # of the environment, and their values
Facts = dict[str, Any]  # those of BackendFacts


@dataclass(frozen=True)
class Runtime:
    """The threads, device and interpreter of a backend's process; they change no mathematics."""

    threads: int | None = None  # None: one for each core that this process may use
    device: str = "cpu"
    lane: str = "matched"
    python: str | None = None  # the interpreter; None: this one

    def start(self, backend: str, model: ModelConfig, train: TrainConfig, group: Variables = None) -> BackendProcess:
        """Start the backend's process and wait until it is open; see `launch`."""
        process = self.launch(backend, model, train, group)
        process.facts  # noqa: B018 (which are there once the backend is open)
        return process

    def launch(self, backend: str, model: ModelConfig, train: TrainConfig, group: Variables = None) -> BackendProcess:
        """Start the backend's process without waiting for it; `group` holds the variables by which it joins a group
        of workers, if any."""
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


def describe_backends(
    names: Sequence[str], runtime: Runtime, on_found: Callable[[str, Facts], None]
) -> dict[str, Facts]:
    """The facts that each backend reports of itself, or as `missing` the reason why it cannot start.

    The processes are started side by side, and `on_found` is called with each backend as soon as it has answered.
    """
    model = ModelConfig(num_encoder_tokens=2, num_decoder_tokens=3, start_token=0, stop_token=1, latent_dim=4)
    found: dict[str, Facts] = {}

    def keep(name: str, facts: Facts) -> None:
        found[name] = facts
        on_found(name, facts)

    with started_side_by_side(
        names,
        lambda name: runtime.launch(name, model, TrainConfig()),
        lambda name, error: keep(name, {"missing": str(error)}),  # not there, or there and broken
    ) as started:
        for name, process in started:
            process.close()
            keep(name, asdict(process.facts))
    return {name: found[name] for name in names}

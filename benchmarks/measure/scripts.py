"""Contestants that are anybody's scripts: the parent's side of `take_turns` of rosetta_record.

A script has its own arguments, output and interpreter. It gets one end of a socket pair, on which each line is a
JSON object: the script sends `ready` once, then `took` for each `turn`. Nothing that it sends is trusted: messages
have types and a limit, and times are compared with the clock of this process. Each mistake ends in one sentence.
"""

import ctypes
import os
import select
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from math import ceil
from secrets import token_hex
from statistics import fmean
from time import monotonic, sleep
from typing import Annotated, Any

import msgspec
import psutil

from backends.process import matched_settings
from backends.process.parent import ENDING_SECONDS, last_words
from benchmarks.in_child import Amount, CountOrZero, Measured, Seconds, Visit, WarmUp, Work
from benchmarks.measure import machine
from benchmarks.measure.plan import Row
from benchmarks.measure.recording import WARM_UP_STEPS, Ready, Start
from benchmarks.measure.turns import Contestant
from common.errors import RosettaError, refusing
from common.machine import cores, peak_memory
from common.text import count, printable

TURNS = "ROSETTA_TURNS"  # the variable that names the socket
MARK = "ROSETTA_RACE"  # the variable with a random value that marks the processes of a script, to end them
PR_SET_CHILD_SUBREAPER = 36  # of linux/prctl.h
MOST_OF_A_MESSAGE = 1 << 20  # bytes
MOST_BEYOND = 1e-3  # seconds that a script's clock may be ahead of this process's in a turn
MOST_PIECES = 10_000  # times in a message
PIECE_SECONDS = 1e-3  # shorter steps are timed together
SYNCED_SECONDS = 0.05  # the same where the device is waited for, so that waiting is a small part
# Tries to kill a script's processes, which may start more meanwhile, and the pause between two tries.
MOST_KILLS, KILL_SECONDS = 50, 0.05


class Took(Measured, frozen=True):
    """The times of a turn's steps."""

    first: CountOrZero  # number of the first timed step
    lead: Amount  # seconds of all steps before it
    steps: Annotated[list[Seconds], msgspec.Meta(min_length=1, max_length=MOST_PIECES)]  # means of the timed pieces


class Message(Measured, frozen=True):
    """A line that a script sends."""

    ready: Ready | None = None
    took: Took | None = None


@dataclass
class Script(Contestant):
    """A script in its process. Methods raise RosettaError if it does anything but what it is asked."""

    runner: Row
    patience: float  # seconds after which a script that sends nothing is ended
    planned: Callable[[float], float] = lambda step: step  # the step that sizes its turns, from the script's

    def start(self, stack: ExitStack) -> None:
        """Start the process; it ends with the stack."""
        self.mark, self.buffer, self.doing = token_hex(16), b"", "before its first turn"
        self.output = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 (it is on the stack)
        self.wire, end_of_child = socket.socketpair()
        stack.enter_context(self.wire)
        prctl = ctypes.CDLL(None).prctl
        with end_of_child:
            variables = {TURNS: str(end_of_child.fileno()), MARK: self.mark}
            with refusing(f"{self.runner.python} cannot be started"):
                self.process = subprocess.Popen(
                    [self.runner.python, *self.runner.command],
                    stdin=subprocess.DEVNULL,
                    stdout=self.output,
                    stderr=self.output,
                    env=environment_of(self.runner) | variables,
                    pass_fds=[end_of_child.fileno()],
                    start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the script
                    # Whatever it starts stays among its descendants, also without a parent and an environment.
                    preexec_fn=lambda: prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0),
                )
        stack.callback(self.end)
        self.known = psutil.Process(self.process.pid)
        self.death = os.pidfd_open(self.process.pid)
        stack.callback(os.close, self.death)

    def wait_until_ready(self) -> Ready:
        """Wait until the script has called `take_turns`."""
        ready: Ready = self._received("ready")
        self.ready = ready
        self._sleeps()
        return ready

    def started(self, seconds: float) -> Start:
        cold = self._took(0, 0, 1, 1).steps[0]
        steps = self._took(1, 0, WARM_UP_STEPS, 1).steps
        self.step_seconds = fmean(steps)
        warm_up = WarmUp(cold, steps, self._peak())
        return Start(self.row, seconds, warm_up, ready=self.ready, threads=self.known.num_threads())

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._family()]

    def turn(self, work: Work, first: int) -> Visit:
        """Have it take steps that do not count, then timed pieces of steps."""
        since, before = self.slept
        idle = max(0.0, self._busy() - before) / max(monotonic() - since, 1e-3)
        step = self.planned(self.step_seconds)
        lead, timed = self.counts(step)
        each = ceil((SYNCED_SECONDS if self.ready.synced else PIECE_SECONDS) / step)
        pieces = min(ceil(timed / each), MOST_PIECES)
        began = machine.now()
        took = self._took(first, lead, pieces, each)
        loop = machine.now() - began
        self.step_seconds = fmean(took.steps)
        visit = Visit(self.row, [took.lead] if took.lead else [], took.steps, loop, items=self.ready.batch)
        beside = {"peak": self._peak(), "first": took.first, "each": each, "idle": idle}
        return msgspec.structs.replace(visit, **beside)

    def _took(self, first: int, lead: int, pieces: int, each: int) -> Took:
        """Have the script take its steps, and wait for their times."""
        if self.process.poll() is None:
            self.doing = "in its turn"
        turn = {"first": first, "lead": lead, "pieces": pieces, "each": each}
        began = monotonic()
        with suppress(ConnectionError):  # its end is seen where nothing arrives
            self.wire.sendall(msgspec.json.encode({"turn": turn}) + b"\n")
        took: Took = self._received("took")
        passed, sent = monotonic() - began, took.lead + each * sum(took.steps)
        if len(took.steps) != pieces or sent > passed + MOST_BEYOND:
            raise RosettaError(
                f"{self.runner.label} sent {count(len(took.steps), 'time')}, {sent:.3g} s in all; expected {pieces}, "
                f"and the turn took {passed:.3g} s"
            )
        self._sleeps()
        return took

    def _sleeps(self) -> None:
        """Note when its turn ended, and the processor time it had used by then."""
        self.doing = "while it waited for its turn"
        self.slept = monotonic(), self._busy()

    def _received(self, kind: str) -> Any:
        """Receive the content of the next message, which must be of this kind."""
        latest = monotonic() + self.patience
        while b"\n" not in self.buffer:
            # A process that it forked may hold the socket, so its death is watched, too.
            watched = [self.wire.fileno(), self.death]
            readable, _, _ = select.select(watched, [], [], max(0.0, latest - monotonic()))
            if not readable:
                raise self._error(
                    f"sent nothing for {self.patience:.0f} s {self.doing}, and was ended; see whether it ends when "
                    "it is run alone, or give a longer --budget"
                )
            part = b""
            if watched[0] in readable:
                with suppress(ConnectionError):  # it ended without reading its turn
                    part = self.wire.recv(1 << 16)
            if not part:
                raise self._error(self._how_it_ended())
            self.buffer += part
            if len(self.buffer) > MOST_OF_A_MESSAGE:
                raise RosettaError(f"{self.runner.label} sent a message of more than {MOST_OF_A_MESSAGE >> 20} MiB")
        line, _, self.buffer = self.buffer.partition(b"\n")
        try:
            content = getattr(msgspec.json.decode(line, type=Message), kind)
        except (ValueError, RecursionError) as error:
            wrong = printable(str(error))[:300]
            raise RosettaError(f"{self.runner.label} sent what take_turns does not send: {wrong}") from error
        if content is None or self.buffer:
            raise RosettaError(
                f"{self.runner.label} sent another message than `{kind}`; is take_turns called in several processes?"
            )
        return content

    def _error(self, message: str) -> RosettaError:
        """An error with this message about the script, and its last words."""
        words = last_words(self.output)
        return RosettaError(f"{self.runner.label} {message}" + (f"; its last words: {words}" if words else ""))

    def _how_it_ended(self) -> str:
        """Describe how and when the script ended, with advice if it never took turns."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(ENDING_SECONDS)
        status = self.process.returncode
        ended = "closed its socket" if status is None else f"ended with status {status}"
        if status is not None and status < 0:
            ended = f"was ended by signal {-status} ({signal.strsignal(-status)})"
        message = f"{ended} {self.doing}"
        if status == 0 and "before" in self.doing:
            message += "; end the script with take_turns(step), which `from rosetta_record import take_turns` imports"
        return message

    def _family(self) -> list[psutil.Process]:
        """The process and its descendants, while they are alive."""
        try:
            return [self.known, *self.known.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _busy(self) -> float:
        """Seconds of processor time of the process and its descendants so far."""
        total = 0.0
        for process in self._family():
            with suppress(psutil.Error):
                total += sum(process.cpu_times()[:4])
        return total

    def _peak(self) -> int:
        return max(1, peak_memory(self.process.pid))

    def end(self) -> None:
        """End the process and all that it has started."""
        living = self._family()
        for _ in range(MOST_KILLS):
            for process in living:
                with suppress(psutil.Error):
                    process.kill()
            with suppress(subprocess.TimeoutExpired):  # the system does not get round to it
                self.process.wait(ENDING_SECONDS)
            living = marked(self.mark)
            if not living:
                break
            sleep(KILL_SECONDS)


def marked(mark: str) -> list[psutil.Process]:
    """The processes that a script has left behind, in any group and with any parent."""
    processes = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                processes.append(process)
    return processes


def environment_of(runner: Row) -> dict[str, str]:
    """The environment of a script: that of this process, in the matched lane with the same settings for all.

    The runner's variables win, and all numbers of threads follow its OMP_NUM_THREADS. TF32 is left to the code of
    the script.
    """
    environment = dict(os.environ)
    asked = runner.variables.get("OMP_NUM_THREADS", "").partition(",")[0]
    threads = int(asked) if asked.isdecimal() and int(asked) else cores()
    for settings in matched_settings(threads).values() if runner.lane == "matched" else ():
        environment |= {name: value for name, value in settings.items() if name != "NVIDIA_TF32_OVERRIDE"}
    return environment | runner.variables

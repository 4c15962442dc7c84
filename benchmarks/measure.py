"""CPU seconds, device seconds and peak memory of computations, fairly taken."""

import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Generic, TypeVar

import torch
from torch.profiler import ProfilerActivity, profile

Result = TypeVar("Result")

STATUS = Path("/proc/self/status")
CLEAR_PEAK = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Timed(Generic[Result]):
    """What a call returned, and the median seconds that its calls took."""

    result: Result
    seconds: float


def interleaved(
    sides: Mapping[str, Callable[[], Result]], device: str, repeats: int, seconds: float
) -> dict[str, Timed[Result]]:
    """Time each side over interleaved calls, after one call to warm up.

    CPU time of the process on a CPU, so that other work on the machine counts little; wall time
    of synchronised calls on a GPU. A side that has used up `seconds` is not called again: one
    that used them up on its first call is reported by that call, cold.
    """
    first = {name: _timed(call, device) for name, call in sides.items()}
    warm: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, call in sides.items():
            if first[name].seconds + sum(warm[name]) < seconds:
                warm[name].append(_timed(call, device).seconds)
    return {
        name: Timed(cold.result, median(warm[name] or [cold.seconds]))
        for name, cold in first.items()
    }


def count_own_time(limit_s: float) -> None:
    """Let the clock of this process be its CPU time, for limits that are fair on a busy machine.

    What it waits for does not count: other processes, those of its own among them. Beyond the limit
    the kernel ends it.
    """
    time.monotonic = time.process_time
    subprocess._time = time.process_time  # type: ignore[attr-defined]
    signal.ITIMER_REAL, signal.SIGALRM = signal.ITIMER_PROF, signal.SIGPROF  # type: ignore[misc]
    end = round(time.process_time() + limit_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (end, end))


def resident_peak_bytes(call: Callable[[], object]) -> int:
    """Return by how much the process's resident memory grows at most during one call.

    Run nothing else in the process. What is loaded or kept on first use counts too: tens of
    megabytes for the first back-substitution through convolutions.
    """
    if not STATUS.exists():
        before = _peak_of_process()
        call()
        return _peak_of_process() - before
    before = _status_bytes("VmRSS")
    # "5" resets the peak of resident memory (proc_pid_clear_refs(5)).
    CLEAR_PEAK.write_text("5")
    call()
    return _status_bytes("VmHWM") - before


def tensor_peak_bytes(call: Callable[[], object], device: str) -> int:
    """Return by how much torch's allocations grow at most during one call."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        _synchronise(device)
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call()
    assert record.profiler is not None, "the profiler has run"
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate(event.nbytes() for event in events), default=0)


def _timed(call: Callable[[], Result], device: str) -> Timed[Result]:
    clock = time.process_time if device == "cpu" else time.perf_counter
    _synchronise(device)
    start = clock()
    result = call()
    _synchronise(device)
    return Timed(result, clock() - start)


def _synchronise(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def _status_bytes(field: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def _peak_of_process() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

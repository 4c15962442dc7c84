"""Carry jobs out through an executor, and hand over each result as soon as it is there."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial

from absolver.analyzer.bench.errors import ClusterError
from absolver.analyzer.bench.job import Job, perform
from absolver.analyzer.bench.result import Answer, Result
from absolver.analyzer.bench.runner import Runner

ATTEMPTS = 3  # an instance that ends three workers is the reason for it


@dataclass(frozen=True)
class Workplace:
    """Where jobs are done: an executor, and what it is to call."""

    executor: Executor
    perform: Callable[[Job], Result]


@contextmanager
def this_machine(jobs: int) -> Iterator[Workplace]:
    """Give threads that wait for processes; none of the processes is left at the end."""
    runner = Runner()
    executor = ThreadPoolExecutor(jobs)
    try:
        yield Workplace(executor, partial(perform, runner))
    finally:
        runner.stop()
        executor.shutdown(wait=True, cancel_futures=True)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def conduct(jobs: Sequence[Job], place: Workplace, keep: Callable[[Result], None]) -> None:
    """Do all jobs, and `keep` each result when it is there.

    A job whose worker dies is submitted again, `ATTEMPTS` times in all; then that is its result.

    Guarantee: every result that a worker has given back is kept, also where Ctrl-C ends the run.
    """
    running: dict[Future[Result], tuple[Job, int]] = {}

    def submit(job: Job, attempt: int) -> None:
        running[place.executor.submit(place.perform, job)] = (job, attempt)

    try:
        for job in jobs:
            submit(job, 1)
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                job, attempt = running[future]
                result = _result(future, job, attempt)
                if result is None:
                    submit(job, attempt + 1)
                else:
                    keep(result)
                del running[future]  # not before: Ctrl-C may come at any time
    except BaseException as error:
        for future in running:
            if future.done() and not future.cancelled() and future.exception() is None:
                keep(future.result())
        if isinstance(error, CancelledError):
            raise ClusterError(
                "the cluster is gone; what was finished is kept, and the same command goes on"
            ) from None
        raise


def _result(future: Future[Result], job: Job, attempt: int) -> Result | None:
    """Return what has come of a job, or None if it is to be done again."""
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, CancelledError):
        raise error
    return None if attempt < ATTEMPTS else _lost(job, error)


def _lost(job: Job, error: BaseException) -> Result:
    """Say that no worker has lived long enough to give a result."""
    return Result(
        family=job.instance.family,
        network=job.instance.network,
        query=job.instance.query,
        network_sha256=job.network_sha256,
        query_sha256=job.query_sha256,
        timeout_s=job.instance.timeout_s,
        settings=asdict(job.settings),
        version=job.version,
        answer=Answer.ERROR,
        checked=False,
        seconds=0.0,
        exit_code=-1,
        stages={},
        message=f"lost {ATTEMPTS} times: {type(error).__name__}: {error}"[:500],
    )

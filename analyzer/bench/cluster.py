"""A Dask cluster as the place where jobs are done."""

import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from distributed import Client, LocalCluster, Worker, WorkerPlugin, get_worker

from absolver.analyzer.bench.campaign import Workplace
from absolver.analyzer.bench.errors import ClusterError
from absolver.analyzer.bench.job import Job, perform
from absolver.analyzer.bench.result import Result
from absolver.analyzer.bench.runner import Runner

LOCAL = "local:"
FIRST_WORKER_S = 60.0  # a batch system may take its time


@contextmanager
def dask(address: str) -> Iterator[Workplace]:
    """Give the cluster at an address as `tcp://host:8786`; `local:N` starts one of N workers.

    The workers need the same files at the same places. At the end none of the processes that they
    have started is left.
    """
    with _client(address) as client:
        local = address.startswith(LOCAL)
        plugin = _Processes(f"absolver-bench-{uuid.uuid4().hex}", ignore_interrupt=local)
        executor = client.get_executor(pure=False)
        try:
            client.register_plugin(plugin)
            _wait_for_a_worker(client)
            yield Workplace(executor, partial(_perform_on_worker, plugin.name))
        finally:
            executor.shutdown(wait=False)
            # Without a scheduler there is nobody to ask; workers end with it, and so do processes.
            with suppress(OSError):
                client.unregister_worker_plugin(plugin.name)


@contextmanager
def _client(address: str) -> Iterator[Client]:
    if not address.startswith(LOCAL):
        try:
            client = Client(address)
        except (OSError, ValueError) as error:
            raise ClusterError(f"no Dask scheduler answers at {address}: {error}") from None
        with client:
            yield client
        return
    workers = int(address.removeprefix(LOCAL))
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _wait_for_a_worker(client: Client) -> None:
    try:
        client.wait_for_workers(1, timeout=FIRST_WORKER_S)
    except TimeoutError:
        raise ClusterError(f"the cluster has had no worker for {FIRST_WORKER_S:g} s") from None


class _Processes(WorkerPlugin):
    """The processes of one run on one worker; they end with the run, and with the worker."""

    def __init__(self, name: str, *, ignore_interrupt: bool) -> None:
        self.name = name
        self._ignore_interrupt = ignore_interrupt
        self.runner: Runner | None = None  # made on the worker, as locks do not travel

    def setup(self, worker: Worker) -> None:
        """Begin, on the worker; one of our own leaves Ctrl-C to us, as we end it."""
        if self._ignore_interrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.runner = Runner()

    def teardown(self, worker: Worker) -> None:
        """End all processes, as the run is over."""
        if self.runner is not None:
            self.runner.stop()


def _perform_on_worker(name: str, job: Job) -> Result:
    plugin = get_worker().plugins[name]
    return perform(plugin.runner, job)

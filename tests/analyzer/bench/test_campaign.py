"""No answer is lost, whatever happens to those who work."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from absolver.analyzer.bench.campaign import ATTEMPTS, Workplace, conduct
from absolver.analyzer.bench.errors import ClusterError
from absolver.analyzer.bench.instances import read_instances
from absolver.analyzer.bench.job import Job, Settings
from absolver.analyzer.bench.result import Answer, Result
from tests.analyzer.bench.cases import job, result

JOBS = [job(str(number)) for number in range(8)]


def right_away(each: Job) -> Result:
    return result(each.query_sha256)


def conducted(perform: Callable[[Job], Result], jobs: list[Job]) -> list[Result]:
    kept: list[Result] = []
    with ThreadPoolExecutor(2) as executor:
        conduct(jobs, Workplace(executor, perform), kept.append)
    return kept


def test_every_job_has_one_result() -> None:
    kept = conducted(right_away, JOBS)
    assert sorted(each.key for each in kept) == sorted(each.key for each in JOBS)
    assert conducted(right_away, []) == []


def test_a_job_whose_worker_dies_is_done_again() -> None:
    deaths = {each.key: number % ATTEMPTS for number, each in enumerate(JOBS)}

    def perform(each: Job) -> Result:
        deaths[each.key] -= 1
        if deaths[each.key] >= 0:
            raise ChildProcessError("gone")
        return right_away(each)

    kept = conducted(perform, JOBS)
    assert sorted(each.key for each in kept) == sorted(each.key for each in JOBS)
    assert all(each.answer is Answer.UNSAT for each in kept)


def test_a_job_that_kills_every_worker_is_an_error_and_the_others_are_done() -> None:
    def perform(each: Job) -> Result:
        if each.key == JOBS[3].key:
            raise ChildProcessError("gone")
        return right_away(each)

    kept = {each.key: each for each in conducted(perform, JOBS)}
    assert len(kept) == len(JOBS)
    assert kept[JOBS[3].key].answer is Answer.ERROR
    assert kept[JOBS[3].key].message == "lost 3 times: ChildProcessError: gone"


def test_what_is_finished_when_ctrl_c_comes_is_kept() -> None:
    kept: list[Result] = []

    class AllAtOnce(Executor):
        """Has finished everything before anybody asks."""

        def submit(self, function, /, *arguments):
            future: Future[Result] = Future()
            future.set_result(function(*arguments))
            return future

    def keep(each: Result) -> None:
        kept.append(each)
        if len(kept) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        conduct(JOBS, Workplace(AllAtOnce(), right_away), keep)
    assert len({each.key for each in kept}) == len(JOBS)


def test_a_cluster_that_goes_away_says_so() -> None:
    def perform(each: Job) -> Result:
        raise CancelledError

    with pytest.raises(ClusterError, match="what was finished is kept"):
        conducted(perform, JOBS)


def test_a_cluster_whose_workers_are_killed_loses_no_answer(
    tmp_path: Path, examples_folder: Path
) -> None:
    pytest.importorskip("distributed", reason="a cluster needs the extra `cluster`")
    from absolver.analyzer.bench.cluster import dask

    known = {"astern": Answer.UNSAT, "far_away": Answer.SAT}
    network = examples_folder / "avoidance.onnx"
    rows = [f"{network},{examples_folder / query}.vnnlib,60" for query in known]
    (tmp_path / "instances.csv").write_text("\n".join(rows))
    jobs = [
        job(each.query, instance=each, settings=Settings(domain="crown"), one_thread=True)
        for each in read_instances(tmp_path)
    ]
    before = set(multiprocessing.active_children())
    kept: dict[str, Answer] = {}

    def keep(each: Result) -> None:
        assert each.key not in kept
        kept[each.key] = each.answer
        if len(kept) == 1:  # the other one may run now, or wait here
            for worker in set(multiprocessing.active_children()) - before:
                assert worker.pid is not None
                os.kill(worker.pid, signal.SIGKILL)

    with dask("local:2") as place:
        conduct(jobs, place, keep)
    assert kept == {each.key: known[Path(each.instance.query).stem] for each in jobs}
    assert not set(multiprocessing.active_children()) - before


def test_an_address_where_nobody_is_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    dask_settings = pytest.importorskip("dask.config", reason="a cluster needs the extra `cluster`")
    pytest.importorskip("distributed")
    from absolver.analyzer.bench.cluster import dask

    with dask_settings.set({"distributed.comm.timeouts.connect": "0.2s"}):
        with pytest.raises(ClusterError, match="no Dask scheduler answers at tcp://127.0.0.1:9"):
            with dask("tcp://127.0.0.1:9"):
                pass

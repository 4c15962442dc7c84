"""`absolver bench`: all instances of a folder, each in a process of its own."""

import argparse
import re
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from absolver import domains
from absolver.analyzer.bench.campaign import Workplace, conduct, cores, this_machine
from absolver.analyzer.bench.errors import MissingExtraError
from absolver.analyzer.bench.instances import Instance, Shard, in_families, read_instances
from absolver.analyzer.bench.job import Job, Settings, sha256
from absolver.analyzer.bench.reference import Replies, read_replies
from absolver.analyzer.bench.result import Answer, Result, ResultsFile, read_results
from absolver.analyzer.bench.summary import Finished, wrong
from absolver.analyzer.cli import arguments as shared
from absolver.analyzer.cli.bench_report import csv_text, lines, watched
from absolver.analyzer.cli.shell import UsageError, complain
from absolver.analyzer.errors import EXIT_INTERRUPTED

EXIT_WRONG = 4
EXIT_CODES = """\
exit code:
  0    every instance has a result, and no answer contradicts a known one
  4    an answer is WRONG: it contradicts the known one
  130  interrupted; the same command goes on
  other codes as for analyze
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folder, where to work, what to keep, and the options of `analyze`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXIT_CODES
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where instances.csv lies")
    parser.add_argument(
        "--family",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="these families only",
    )
    parser.add_argument(
        "--shard", type=shard, default=Shard(), metavar="I/N", help="the I-th of N equal parts"
    )
    place = parser.add_argument_group("where to work")
    place.add_argument(
        "--jobs",
        type=count,
        metavar="N",
        help="instances at a time on this machine (default: as many as cores)",
    )
    place.add_argument(
        "--cluster",
        type=cluster,
        metavar="ADDRESS",
        help="a Dask scheduler, as tcp://host:8786, or local:N for a new one with N workers; "
        "the workers need the same files at the same places",
    )
    kept = parser.add_argument_group("what is kept")
    kept.add_argument(
        "--output",
        type=Path,
        default=Path("bench-results"),
        metavar="DIR",
        help="where results are kept, and looked up so that nothing is run twice "
        "(default: bench-results)",
    )
    kept.add_argument(
        "--keep-certificates", action="store_true", help="keep them in DIR/certificates"
    )
    kept.add_argument(
        "--retry-errors", action="store_true", help="run again what has ended in an error"
    )
    parser.add_argument(
        "--domain", metavar="D", help="as for analyze (default: the analyzer's choice)"
    )
    parser.add_argument("--semantics", choices=("real", "float32"), help="as for analyze")
    shared.add_run_arguments(parser)
    parser.add_argument(  # in place of the shared one, which says something else
        "--timeout",
        type=shared.seconds,
        metavar="S",
        help="give each instance S seconds (default: what instances.csv gives it)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run what has no result yet, and print the table of all."""
    if arguments.jobs is not None and arguments.cluster is not None:
        raise UsageError("--jobs is about this machine, --cluster about others: give one of them")
    if arguments.domain is not None:
        domains.locate(arguments.domain)  # a wrong name now is not an error for each instance
    instances = read_instances(arguments.folder, arguments.timeout)
    instances = arguments.shard.of(in_families(instances, arguments.family))
    replies = read_replies(arguments.folder)
    jobs = _jobs(instances, arguments)
    arguments.output.mkdir(parents=True, exist_ok=True)
    results = read_results(sorted(arguments.output.glob("results*.jsonl")))
    if arguments.retry_errors:
        results = {key: old for key, old in results.items() if old.answer is not Answer.ERROR}
    interrupted = False
    try:
        _work(jobs, results, arguments)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        finished = [(job.instance, results[job.key]) for job in jobs if job.key in results]
        _publish(instances, finished, replies, arguments)
    if interrupted:
        complain("absolver bench", "interrupted; the same command goes on")
        return EXIT_INTERRUPTED
    return EXIT_WRONG if wrong(finished) else 0


def shard(text: str) -> Shard:
    """Read `I/N`."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 1 to N")
    return Shard(int(match[1]), int(match[2]))


def count(text: str) -> int:
    """Read a number of things from 1 on."""
    number = shared.natural(text)
    if number == 0:
        raise argparse.ArgumentTypeError("0 instances at a time would never end")
    return number


def cluster(text: str) -> str:
    """Read the address of a cluster."""
    if not re.fullmatch(r"local:[1-9]\d*|[a-z]+://\S+", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no address as tcp://host:8786, nor local:N with a number of workers"
        )
    return text


def _jobs(instances: list[Instance], arguments: argparse.Namespace) -> list[Job]:
    """Make a job of each instance."""
    settings = Settings(
        domain=arguments.domain,
        semantics=arguments.semantics,
        device=arguments.device,
        dtype=arguments.dtype,
        seed=arguments.seed,
        memory=arguments.memory,
    )
    one_thread = arguments.cluster is not None or _at_a_time(arguments) > 1
    digests: dict[tuple[Path, ...], str] = {}

    def digest(*files: Path) -> str:
        if files not in digests:
            digests[files] = sha256(*files)
        return digests[files]

    jobs = [
        Job(
            instance=instance,
            network_sha256=digest(*(path for _, path in instance.networks)),
            query_sha256=digest(instance.query_file),
            settings=settings,
            version=version("absolver"),
            one_thread=one_thread,
        )
        for instance in instances
    ]
    if not arguments.keep_certificates:
        return jobs
    folder = (arguments.output / "certificates").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return [replace(job, certificate=folder / job.certificate_name) for job in jobs]


def _at_a_time(arguments: argparse.Namespace) -> int:
    return arguments.jobs or cores()


def _work(jobs: list[Job], results: dict[str, Result], arguments: argparse.Namespace) -> None:
    """Do the jobs that have no result, and add theirs to `results` and to the file."""
    # Two instances may be about the same files: one job answers both.
    todo = list({job.key: job for job in jobs if job.key not in results}.values())
    if not todo:
        return
    path = arguments.output / f"results{arguments.shard.suffix}.jsonl"
    with (
        ResultsFile(path) as file,
        watched([(job.key, job.instance) for job in jobs], results) as show,
        _place(arguments) as place,
    ):

        def keep(result: Result) -> None:
            file.add(result)
            results[result.key] = result
            show(result)

        conduct(todo, place, keep)


def _place(arguments: argparse.Namespace) -> AbstractContextManager[Workplace]:
    """Return where to work: this machine, or a cluster."""
    if arguments.cluster is None:
        return this_machine(_at_a_time(arguments))
    try:
        from absolver.analyzer.bench.cluster import dask
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"--cluster needs Dask, and {error.name} is not installed: "
            "pip install 'absolver[cluster]'"
        ) from None
    return dask(arguments.cluster)


def _publish(
    instances: list[Instance],
    finished: Finished,
    replies: Replies,
    arguments: argparse.Namespace,
) -> None:
    """Print the table, and write the CSV file and the plot."""
    from absolver.analyzer.results import write_atomically

    print("\n".join(lines(instances, finished, replies)), flush=True)
    suffix = arguments.shard.suffix
    if not finished:
        return
    write_atomically(arguments.output / f"results{suffix}.csv", csv_text(finished))
    try:
        from absolver.analyzer.bench.cactus import compared, curves, draw
    except ModuleNotFoundError as error:
        complain(
            "absolver bench",
            f"no cactus plot, as {error.name} is not installed: pip install 'absolver[plot]'",
        )
        return
    same = compared(finished, replies)
    draw(curves(same, replies), len(same), arguments.output / f"cactus{suffix}")

"""Jobs in processes: order of results, failures, killed processes, no process left."""

import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
from job_functions import delayed_signals, die, double, fall, hoard, process, reports, threads

from foveal.comparison.jobs import Failed, JobPool
from foveal.comparison.local_workers import LocalWorkers, count_local
from foveal.profiling.environment import cores


def test_run_keeps_the_order_and_isolates_failures_and_kills():
    with JobPool(LocalWorkers()) as pool:
        results = pool.run({"a": (double, (1,)), "b": (fall, (7,)), "c": (double, (3,)), "t": (threads, ())})
        assert list(results) == ["a", "b", "c", "t"]
        assert (results["a"], results["c"], results["t"]) == (2, 6, 1)
        assert results["b"] == Failed("MemoryError: no room for 7 maps")
        results = pool.run({"a": (double, (1,)), "dead": (die, (0,)), "b": (double, (4,)), "c": (double, (5,))})
        assert (results["a"], results["b"], results["c"]) == (2, 8, 10)
        assert "killed" in results["dead"].reason


def test_run_keeps_its_processes_and_counts_what_jobs_report():
    counts = []
    with JobPool(LocalWorkers()) as pool:
        first = set(pool.run(dict.fromkeys(range(8), (process, ()))).values())  # the others may not have started yet
        pool.run({"a": (reports, (3,)), "b": (reports, (4,)), "c": (double, (1,))}, counts.append)
        second = set(pool.run(dict.fromkeys(range(8), (process, ()))).values())
    assert first & second
    assert len(first | second) <= count_local()
    assert sum(counts) == 7
    until(lambda: not any(map(running, first | second)))


@pytest.mark.slow
def test_run_replaces_processes_that_have_grown_without_a_word():
    with warnings.catch_warnings(record=True) as told, JobPool(LocalWorkers()) as pool:
        warnings.simplefilter("always")
        found = pool.run(dict.fromkeys(range(3 * count_local()), (hoard, (1.2,))))
    assert len(set(found.values())) > count_local()
    assert not told


def test_run_starts_processes_that_leave_signals_to_their_parent():
    with JobPool(LocalWorkers()) as pool:
        results = pool.run(dict.fromkeys(range(count_local()), (delayed_signals, ())))
    assert all(found == [signal.SIGHUP, signal.SIGINT] for found in results.values())
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_run_of_nothing_starts_no_process():
    with JobPool(LocalWorkers()) as pool:
        assert pool.run({}) == {}
        assert pool.workers._executor is None


@pytest.mark.slow
def test_run_processes_end_with_their_parent(tmp_path):
    """Kill the parent: its child processes must not go on writing."""
    alive = tmp_path / "alive"
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "from pathlib import Path\nfrom foveal.comparison.jobs import JobPool\n"
        "from foveal.comparison.local_workers import LocalWorkers\n"
        "from job_functions import write_for_ever\n"
        f"with JobPool(LocalWorkers()) as pool: pool.run({{0: (write_for_ever, (Path({str(alive)!r}),))}})\n"
    )
    (tmp_path / "script.py").write_text(script)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "script.py")])  # noqa: S603
    until(alive.exists)
    parent.kill()
    parent.wait()
    until(lambda: not running(int(alive.read_text() or 0)))


def until(condition, seconds: float = 60) -> None:
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds
        time.sleep(0.1)


def running(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_count_local_ignores_gpus_that_are_absent(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert count_local() == cores()

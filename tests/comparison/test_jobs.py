"""Jobs in processes: order of results, failures, killed processes, no process left."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from job_functions import die, double, fall, reports, threads

from foveal.comparison.jobs import Failed, run_jobs, workers
from foveal.profiling.environment import cores


def test_run_jobs_keeps_the_order_and_isolates_failures():
    results = run_jobs({"a": (double, (1,)), "b": (fall, (7,)), "c": (double, (3,)), "t": (threads, ())})
    assert list(results) == ["a", "b", "c", "t"]
    assert (results["a"], results["c"], results["t"]) == (2, 6, 1)
    assert results["b"] == Failed("MemoryError: no room for 7 maps")


def test_run_jobs_counts_what_jobs_report():
    counts = []
    run_jobs({"a": (reports, (3,)), "b": (reports, (4,)), "c": (double, (1,))}, counts.append)
    assert sum(counts) == 7


def test_run_jobs_reports_a_killed_process_and_finishes_the_others():
    results = run_jobs({"first": (double, (1,)), "dead": (die, (0,)), "last": (double, (4,)), "more": (double, (5,))})
    assert (results["first"], results["last"], results["more"]) == (2, 8, 10)
    assert "killed" in results["dead"].reason


def test_run_jobs_of_nothing_starts_no_process():
    assert run_jobs({}) == {}


@pytest.mark.slow
def test_run_jobs_processes_end_with_their_parent(tmp_path):
    """Kill the parent: its child processes must not go on writing."""
    alive = tmp_path / "alive"
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "from pathlib import Path\nfrom foveal.comparison.jobs import run_jobs\n"
        "from job_functions import write_for_ever\n"
        f"if __name__ == '__main__': run_jobs({{0: (write_for_ever, (Path({str(alive)!r}),))}})\n"
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


def test_workers_ignores_gpus_that_are_absent(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert workers() == cores()

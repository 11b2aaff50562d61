"""Signals to a training command: its processes end, one line is printed, and the same command continues."""

import signal
import subprocess
import sys
import time

import pytest

from benchmarks.kills import session_members, start, stop, write_images


@pytest.mark.slow
def test_main_ends_all_processes_of_a_comparison_after_an_interrupt(tmp_path):
    data, output = write_images(tmp_path / "images"), tmp_path / "run"
    process = start(("compare", "none", "se", "--seeds", "1", "--epochs", "1000"), data, output)
    begin = time.monotonic()
    while not any(output.glob("*/last.safetensors")):
        assert process.poll() is None
        assert time.monotonic() - begin < 400
        time.sleep(0.1)
    assert len(session_members(process.pid)) > 2
    assert stop(process, signal.SIGINT, whole_group=True, seconds=30) == ""  # beside other tests
    assert process.returncode == 128 + signal.SIGINT
    assert not [*output.rglob("*.half*")]


def test_leave_does_not_wait_for_an_exit_function_for_ever():
    script = (
        "import atexit, time\nfrom foveal.cli import main\nmain.PATIENCE = 0.2\n"
        "atexit.register(time.sleep, 60)\nprint('done')\nmain.leave(3)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    assert (done.returncode, done.stdout) == (3, "done\n")

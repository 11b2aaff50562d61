"""The command in several processes: which of them speaks, and a run whose processes are killed."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.kills import contents, write_images
from foveal.cli.launch import check_launch, may_speak

TRAIN = ("train", "--model", "small_cnn+se", "--epochs", "20", "--batch-size", "8", "--image-size", "16")


def test_check_launch_lets_only_train_run_in_several_processes(monkeypatch):
    check_launch(["compare"])
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_launch(["train", "--epochs", "1"])
    check_launch(["--help"])
    with pytest.raises(ValueError, match=r"^compare starts processes itself; torchrun started 2, and only train takes"):
        check_launch(["compare"])
    with pytest.raises(ValueError, match=r"^look runs in one process; torchrun started 2"):
        check_launch(["look"])


def test_main_is_silent_in_another_process_until_torchrun_ends_it(run_command, monkeypatch):
    monkeypatch.setattr("foveal.cli.launch.PATIENCE", 0.01)
    monkeypatch.setenv("RANK", "1")
    terminated = signal.getsignal(signal.SIGTERM)
    code, out, err = run_command("list")
    assert (code, out, err) == (0, "", "")
    code, out, err = run_command("train", "--epochs", "many")
    assert (code, out) == (2, "")
    assert err.startswith("foveal: process 1: ")
    assert not may_speak(signal.SIGINT)
    signal.signal(signal.SIGTERM, terminated)


def start(count, data, output):
    """Start a command under torchrun in a session of its own."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count), "--rdzv-backend", "c10d"]
    command += ["--rdzv-endpoint", "localhost:0", "-m", "foveal", *TRAIN, "--data", f"folder:{data}"]
    return subprocess.Popen(  # noqa: S603
        [*command, "--output", str(output)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, cwd=Path(__file__).parents[2], env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def ranks_of(parent):
    """Return the processes that torchrun started, by rank; each has a session of its own."""
    found = {}
    for folder in filter(lambda each: each.name.isdecimal(), Path("/proc").iterdir()):
        with suppress(OSError):
            if (folder / "stat").read_text().rpartition(")")[2].split()[1] == str(parent):
                words = (folder / "environ").read_bytes().decode().split("\0")
                found |= {int(word.removeprefix("RANK=")): int(folder.name) for word in words if word[:5] == "RANK="}
    return found


def running(number):
    with suppress(OSError):
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def epochs_done(output):
    file = output / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize(("victim", "epochs"), [(0, 1), (1, 8), (None, 4)], ids=["rank 0", "rank 1", "torchrun"])
def test_train_ends_when_a_process_is_killed_and_goes_on_bitwise(tmp_path, victim, epochs):
    data = write_images(tmp_path / "images")
    whole = start(2, data, tmp_path / "whole")
    assert whole.wait(400) == 0, whole.stderr.read()
    process = start(2, data, tmp_path / "run")
    while epochs_done(tmp_path / "run") < epochs:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    ranks = ranks_of(process.pid)
    assert ranks.keys() == {0, 1}
    os.kill(ranks[victim] if victim is not None else process.pid, signal.SIGKILL)
    begin = time.monotonic()
    while process.poll() is None or any(map(running, ranks.values())):
        assert time.monotonic() - begin < 60
        time.sleep(0.05)
    errors = [line for line in process.stderr.read().splitlines() if line.startswith("foveal: ")]
    assert all("the same command continues after the last epoch that was stored" in line for line in errors)
    assert victim is None or len(errors) == 1
    again = start(2, data, tmp_path / "run")
    assert again.wait(400) == 0, again.stderr.read()
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")

"""Comparisons on a Ray cluster of two nodes on this machine: the local figures, also where a node dies."""

import json
import os
from pathlib import Path
from threading import Event, Thread

import pytest
from filelock import FileLock

import foveal
from foveal.comparison.cluster import check_machines, connect, patiently
from foveal.core.folders import LOCK, BeingWrittenError, locked_folder

ray = pytest.importorskip("ray", reason="needs the extra `cluster`")
pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]
SETTINGS = {"data": "digits", "epochs": 4, "seeds": 2}
CONTENDERS = ["none", "se"]


@pytest.fixture
def cluster():
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    started.other = started.add_node(num_cpus=1)
    yield started
    ray.shutdown()
    started.shutdown()


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    pytest.importorskip("mlxtend")
    return foveal.compare(CONTENDERS, output=tmp_path_factory.mktemp("local") / "out", **SETTINGS)


def errors(result):
    return {row.name: row.errors for row in result.rows}


class Writers(Thread):
    """Watches which process writes to each run folder; `twice` lists folders whose earlier writer was still alive."""

    def __init__(self, folder: Path):
        super().__init__(daemon=True)
        self.folder, self.ended, self.last, self.twice, self.successors = folder, Event(), {}, [], 0

    def run(self):
        while not self.ended.wait(0.05):
            for marker in self.folder.glob("*/.foveal"):
                try:
                    process = json.loads(marker.read_text())["process"]
                except (OSError, ValueError):
                    continue
                earlier = self.last.get(marker, process)
                if earlier != process and process != os.getpid():  # which clears up at the end
                    self.successors += 1
                    if Path(f"/proc/{earlier}").exists():
                        self.twice.append(str(marker))
                self.last[marker] = process


@pytest.mark.parametrize("kill", ["nothing", "node", "raylet alone"])
def test_compare_on_a_cluster_gives_the_local_figures_whatever_dies(cluster, local, tmp_path, capfd, kill):
    done = []

    def on_progress(count, of):
        if count >= 3 and not done:
            done.append(count)
            if kill == "node":
                cluster.remove_node(cluster.other, allow_graceful=False)
            elif kill == "raylet alone":
                cluster.other.all_processes["raylet"][0].process.kill()

    writers = Writers(tmp_path / "out")
    writers.start()
    found = foveal.compare(
        CONTENDERS, output=tmp_path / "out", cluster=cluster.address, on_progress=on_progress, **SETTINGS
    )
    writers.ended.set()
    writers.join()
    assert done
    assert errors(found) == errors(local)
    assert found.plan.parallel == 2
    assert not writers.twice
    assert (writers.successors > 0) == (kill != "nothing")
    assert not ray.is_initialized()
    assert "raylet" not in capfd.readouterr().out


def test_compare_refuses_what_a_cluster_cannot_do(cluster, tmp_path):
    with pytest.raises(ValueError, match=r"cluster='127\.0\.0\.1:1' does not answer"):
        foveal.compare(CONTENDERS, output=tmp_path / "out", cluster="127.0.0.1:1", **SETTINGS)
    connected, _ = connect(cluster.address)
    folder = tmp_path / "locked"
    with locked_folder(folder):
        check_machines(connected, folder, str(tmp_path))
        with pytest.raises(ValueError, match=r"machine .* has no folder '/absent', the current one here"):
            check_machines(connected, folder, "/absent")
    with pytest.raises(ValueError, match=r"does not see the lock of output=.*; its file system must share locks"):
        check_machines(connected, folder, str(tmp_path))


def test_patiently_waits_for_an_earlier_writer(tmp_path):
    lock = FileLock(tmp_path / LOCK)
    lock.acquire()
    calls = []

    def call(number):
        calls.append(number)
        if len(calls) == 2:
            lock.release()
        if len(calls) < 3:
            raise BeingWrittenError("by another process")
        return number

    assert patiently(call, 7) == 7
    assert calls == [7, 7, 7]

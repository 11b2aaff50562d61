"""Worker processes on the machines of a Ray cluster, which share a file system.

Each job is a task that takes one CPU, and one GPU where the cluster has any. If a machine dies, Ray starts its tasks
again on another one, and a run goes on from its folder. There is one writer to a folder at any time: a run locks its
folder (`foveal.core.folders.locked_folder`), a task that was started again waits for the lock, and a process ends with
the Ray node that started it. That locks reach from machine to machine is tested on every machine at the start.
"""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from foveal.comparison.jobs import DiedError, Workers, begin_reports, failed, guarded
from foveal.comparison.local_workers import MALLOC, LocalWorkers
from foveal.core.folders import LOCK, MARKER, BeingWrittenError
from foveal.core.names import one_line
from foveal.core.processes import end_with_parent

RETRIES = 3  # of a task whose machine or process died
ANSWER = 10.0  # seconds in which a cluster answers
PATIENCE = 300.0  # seconds that such a task waits until the folder of its run is free
PASSED = ("FOVEAL_", "HF_HOME", "HF_HUB_", "HF_DATASETS_", "PYTHONPATH")  # beginnings of variables that processes get
PACKAGES = ("foveal", "torch", "timm")  # which are the same on all machines

_parent_watched = False  # in a worker process


class RayWorkers:
    """Worker processes on the machines of a Ray cluster.

    Args:
        address: "auto" for the cluster that this machine belongs to, or `ray://HOST:PORT`.
        folder: of the comparison, locked by this process, in a file system that all machines share.

    Raises:
        ValueError: Ray is missing, no cluster answers, it has neither CPU nor GPU, or a machine has another version of
            a package, or does not see the folder or its lock.
    """

    def __init__(self, address: str, folder: Path) -> None:
        self._ray, self._own = connect(address)
        self._waiting: set[Any] = set()
        try:
            self.size, gpus = count_jobs(self._ray, address)
            self._place = str(Path.cwd())
            check_machines(self._ray, folder.absolute(), self._place)
            here = self._ray.get_runtime_context().get_node_id()  # of this process: the count lives as long as it
            self._counter = self._ray.remote(num_cpus=0, scheduling_strategy=pinned(here))(Counter).remote()
            options = {"num_cpus": 1, "num_gpus": int(gpus), "max_retries": RETRIES}
            self._task = self._ray.remote(**options)(run_task)
        except BaseException:
            self.close()
            raise

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Any:
        handle = self._task.remote(self._counter, self._place, call, *arguments)
        self._waiting.add(handle)
        return handle

    def wait(self, handles: Iterable[Any], seconds: float) -> tuple[Iterable[Any], Iterable[Any]]:
        return self._ray.wait(list(handles), timeout=seconds)

    def result(self, handle: Any) -> Any:
        """Return the result of a job, or `Failed` if it could not be sent to a process or back."""
        errors = self._ray.exceptions
        self._waiting.discard(handle)
        try:
            return self._ray.get(handle)
        except errors.RayTaskError as error:
            return failed(error.cause or error)
        except errors.RayError as error:
            raise DiedError from error

    def reported(self) -> int:
        return self._ray.get(self._counter.total.remote())

    def renew(self) -> None:
        """Do nothing: Ray replaces processes itself."""

    def close(self) -> None:
        """End the processes of all jobs, and leave a cluster that was not in use before."""
        for handle in self._waiting:
            with suppress(Exception):  # it has ended
                self._ray.cancel(handle, force=True)
        if self._own:
            self._ray.shutdown()


def workers_of(cluster: str | None, folder: Path) -> Workers:
    """Return the processes of a cluster, or for None of this machine, for a comparison in a folder."""
    return LocalWorkers() if cluster is None else RayWorkers(cluster, folder)


class Counter:
    """Number of calls of `report` in all jobs."""

    def __init__(self) -> None:
        self.count = 0

    def add(self) -> None:
        self.count += 1

    def total(self) -> int:
        return self.count


def connect(address: str) -> tuple[Any, bool]:
    """Connect to a cluster; return the module of Ray, and whether this call connected it.

    Raises:
        ValueError: Ray is missing, or no cluster answers.
    """
    if find_spec("ray") is None:
        raise ValueError(f"cluster={address!r}: ray is missing; pip install foveal[cluster]")
    import ray
    import ray.exceptions

    if ray.is_initialized():
        return ray, False
    check_answers(address)
    passed = {name: value for name, value in os.environ.items() if name.startswith(PASSED)}
    try:
        with signals_kept():
            ray.init(
                address, runtime_env={"env_vars": {**MALLOC, **passed}}, log_to_driver=False, logging_level="CRITICAL"
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ValueError(f"cluster={address!r}: {one_line(error):.300}") from error
    silence()
    return ray, True


def silence() -> None:
    """Print none of Ray's messages, twenty lines for each machine that dies; no setting of Ray does this."""
    with suppress(ImportError, AttributeError):  # of a version that prints them otherwise
        from ray._private import worker

        if worker.print_to_stdstream:
            worker.print_to_stdstream = lambda *_, **__: None


def check_answers(address: str) -> None:
    """Connect to the port that an address names: Ray itself waits for minutes.

    Raises:
        ValueError: an address that is neither "auto" nor HOST:PORT; nothing answers there.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    if not (host and port.isdecimal()):
        raise ValueError(f"cluster={address!r}: auto, or ray://HOST:PORT, is needed")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER).close()
    except (OSError, OverflowError) as error:
        raise ValueError(f"cluster={address!r} does not answer: {one_line(error)}") from error


def cluster_size(address: str) -> int:
    """Return the number of jobs that run on a cluster at the same time.

    Raises:
        ValueError: Ray is missing, no cluster answers, or it has neither CPU nor GPU.
    """
    ray, _ = connect(address)
    return count_jobs(ray, address)[0]


def count_jobs(ray: Any, address: str) -> tuple[int, bool]:
    """Return the number of jobs that run on a cluster at the same time, and whether each has a GPU.

    Raises:
        ValueError: it has neither CPU nor GPU.
    """
    resources = ray.cluster_resources()
    gpus, cpus = (int(resources.get(kind, 0)) for kind in ("GPU", "CPU"))
    if not gpus + cpus:
        raise ValueError(f"cluster={address!r} has neither CPU nor GPU")
    return gpus or cpus, gpus > 0


@contextmanager
def signals_kept() -> Iterator[None]:
    """Keep this process's handler of SIGTERM, which Ray replaces."""
    earlier = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        with suppress(ValueError):  # not in the main thread, where Ray replaces nothing
            signal.signal(signal.SIGTERM, earlier)


def pinned(machine: str) -> Any:
    """Return the strategy that runs a task on a machine of this number, or fails."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(machine, soft=False)


def check_machines(ray: Any, folder: Path, place: str) -> None:
    """Check that every machine sees a locked folder and its lock, and has this machine's packages.

    Raises:
        ValueError: one does not.
    """
    marker, packages = (folder / MARKER).read_text(), {name: version(name) for name in PACKAGES}
    machines = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    task = ray.remote(num_cpus=0, max_retries=0)(why_unfit)
    found = {
        machine: task.options(scheduling_strategy=pinned(machine)).remote(str(folder), marker, place, packages)
        for machine in machines
    }
    for machine, handle in found.items():
        try:
            reason = ray.get(handle)
        except ray.exceptions.RayError as error:
            reason = one_line(getattr(error, "cause", None) or error)[:300]
        if reason is not None:
            raise ValueError(f"cluster: machine {machines[machine]} {reason}")


def why_unfit(folder: str, marker: str, place: str, packages: dict[str, str]) -> str | None:
    """Return why this machine cannot run jobs of a comparison in a folder that another machine has locked."""
    for name, wanted in packages.items():
        if (found := version(name)) != wanted:
            return f"has {name} {found}, and this one {wanted}"
    if not Path(place).is_dir():
        return f"has no folder {place!r}, the current one here"
    try:
        if Path(folder, MARKER).read_text() != marker:
            return f"has another folder {folder!r}; name one in a file system that all machines share"
    except OSError:
        return f"does not see output={folder!r}; name a folder in a file system that all machines share"
    try:
        with FileLock(Path(folder, LOCK), blocking=False):
            return f"does not see the lock of output={folder!r}; its file system must share locks"
    except Timeout:
        return None


def run_task(counter: Any, place: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """Run a job in a process of Ray; wait while an earlier process of this job, cut off, still writes to its folder."""
    global _parent_watched
    if not _parent_watched:
        end_with_parent(os.getppid())
        _parent_watched = True
    torch.set_num_threads(1)
    os.chdir(place)
    begin_reports(counter.add.remote)
    return guarded(patiently, call, *arguments)


def patiently(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function again while the folder that it writes to is being written."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return call(*arguments)
        except BeingWrittenError:
            if time.monotonic() > until:
                raise
            time.sleep(1)

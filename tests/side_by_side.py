"""Functions in several processes side by side, as torchrun starts them, but forked: torch is loaded already."""

import multiprocessing
import os
import pickle
import socket
import tempfile
import traceback
from pathlib import Path

import torch
from accelerate import PartialState


def side_by_side(count, call, *arguments):
    """Call a function in each process; return the results in order: an exception that it raised, None if it died."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        fork = multiprocessing.get_context("fork").Process
        processes = [fork(target=run, args=(index, count, port, folder, call, arguments)) for index in range(count)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(300)
            process.kill()
        files = [Path(folder) / str(index) for index in range(count)]
        return [pickle.loads(file.read_bytes()) if file.exists() else None for file in files]  # noqa: S301


def run(index, count, port, folder, call, arguments):
    launch = {"RANK": index, "LOCAL_RANK": index, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in launch.items()}, MASTER_ADDR="127.0.0.1")
    os.environ.update(GLOO_SOCKET_IFNAME="lo", OMP_NUM_THREADS="1")
    torch.set_num_threads(1)
    PartialState._reset_state()
    try:
        result = call(*arguments)
    except Exception as error:
        result = error
        traceback.print_exc()
    (Path(folder) / str(index)).write_bytes(pickle.dumps(result))
    os._exit(0)  # as the command ends

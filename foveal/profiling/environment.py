"""Hardware and software of a measurement: processor, cores, GPUs, versions."""

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import torch

LIBRARIES = ("foveal", "torch", "torchvision", "timm", "numpy")


def processor() -> str:
    """Return the processor's name, as far as the system reports it."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> str:
    """Return the names of the GPUs, with the number of each."""
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ", ".join(dict.fromkeys(f"{names.count(name)} x {name}" for name in names)) or "none"


def versions() -> str:
    """Return the versions of Python and of the libraries that affect results."""
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in LIBRARIES)])

"""What figures are measured on: processor, cores, GPUs, versions."""

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import torch

LIBRARIES = ("foveal", "torch", "torchvision", "timm", "numpy")


def processor() -> str:
    """The processor's name, where the system tells it."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """How many a process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> str:
    """By name, with how many there are of each."""
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ", ".join(dict.fromkeys(f"{names.count(name)} x {name}" for name in names)) or "none"


def versions() -> str:
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in LIBRARIES)])

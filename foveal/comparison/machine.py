"""What figures were measured on: processor, cores, GPUs, system, versions."""

import platform
import sys
from importlib.metadata import version
from pathlib import Path

import torch

import foveal
from foveal.comparison.jobs import cores, workers

LIBRARIES = ("torch", "torchvision", "timm", "numpy")


def machine() -> dict[str, str]:
    """What to what it is, in words."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "Processor": f"{processor()}, {cores()} cores that a process may use",
        "GPU": ", ".join(dict.fromkeys(f"{gpus.count(gpu)} x {gpu}" for gpu in gpus)) or "none",
        "Runs at a time": f"{workers()}, with one thread each",
        "System": f"{platform.system()} {platform.release()}",
        "Versions": f"foveal {foveal.__version__}, Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
    }


def processor() -> str:
    """The processor's name, where the system tells it."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()

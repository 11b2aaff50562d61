"""The figures of `metrics.jsonl` as files for TensorBoard, in the folder `tensorboard` of a run.

They hold each line once: a run that is continued writes the lines of its earlier epochs again, in place of the earlier
files. The figures of the test part are at the step of the last epoch.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from foveal.training.config import RunConfig
from foveal.training.run_figures import is_number

FOLDER, ENDING = "tensorboard", ".foveal"  # the ending tells our files from those of others


def check_tensorboard(config: RunConfig) -> None:
    """Refuse `tensorboard` where its package is missing."""
    if config.tensorboard and find_spec("tensorboard") is None:
        raise ValueError("tensorboard=True: the package tensorboard is missing; pip install foveal[tensorboard]")


def delete_events(folder: Path) -> None:
    """Delete the files of a run for TensorBoard; those of others in the same folder stay."""
    for path in (folder / FOLDER).glob(f"*{ENDING}"):
        path.unlink()
    if (folder / FOLDER).is_dir() and not any((folder / FOLDER).iterdir()):
        (folder / FOLDER).rmdir()


class EventFiles:
    """Writer of a run's lines for TensorBoard."""

    def __init__(self, folder: Path):
        from torch.utils.tensorboard import SummaryWriter

        delete_events(folder)
        self.written = 0
        self.writer = SummaryWriter(folder / FOLDER, purge_step=1, filename_suffix=ENDING)

    def write(self, lines: list[dict[str, Any]]) -> None:
        """Write those of the run's lines that are not written yet."""
        for number, line in enumerate(lines[self.written :], start=self.written + 1):
            figures = {f"test/{name}": value for name, value in line.get("test", {}).items()} or line
            for name, value in figures.items():
                if is_number(value) and not name.endswith("epoch"):
                    self.writer.add_scalar(name, value, line.get("epoch", number - 1))
        self.written = len(lines)
        self.writer.flush()

    def close(self) -> None:
        """Close the file; its thread ends."""
        self.writer.close()

"""Fill the disk at ten moments of a training run and of a comparison, make room, and run the same command again.

    python -m benchmarks.full_disk > benchmarks/full_disk.md

The output folder lies on a tmpfs that holds a part of the files, so that writing fails at another moment in each trial;
mounting needs root. In other trials the size of files is limited. The command must print one line and exit with 2, or
a comparison report the failed runs, and the same command must end as if nothing had happened once there is room.
"""

import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.kills import COMPARE, TRAIN, contents, difference, start, write_images
from foveal.profiling.environment import cores, processor

MOMENTS = 5  # of each command and limit


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[None]:
    """Mount a tmpfs of `size` bytes."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    subprocess.run(mount, check=True)  # noqa: S603
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)  # noqa: S603, S607


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """Limit the size of files that processes started in this context may write."""
    earlier = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, earlier[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, earlier)


def run_without_room(words: tuple[str, ...], data: Path, output: Path) -> str:
    """Run a command for which there is no room; return what is wrong, or an empty text."""
    process = start(words, data, output)
    _, errors = process.communicate()
    lines = [line for line in errors.splitlines() if line]
    if process.returncode == 0 and words == COMPARE:
        return ""  # it reports the runs that failed
    if process.returncode != 2 or len(lines) != 1 or not any(each in lines[0] for each in ("No space", "too large")):
        return f"exit code {process.returncode}: {errors[-300:]!r}"
    return "a temporary file is left" if [*output.rglob("*.half*")] else ""


def run_with_room(words: tuple[str, ...], data: Path, output: Path, whole: dict[str, bytes]) -> str:
    """Run the command again; return what is wrong, or an empty text."""
    process = start(words, data, output)
    _, errors = process.communicate()
    if process.returncode != 0:
        return f"again: exit code {process.returncode}, {errors[-300:]!r}"
    return difference(whole, contents(output))


def trial_on_a_small_disk(
    words: tuple[str, ...], data: Path, output: Path, whole: dict[str, bytes], size: int, enough: int
) -> str:
    with small_disk(output.parent, size):
        wrong = run_without_room(words, data, output)
        subprocess.run(["mount", "-o", f"remount,size={enough}", str(output.parent)], check=True)  # noqa: S603, S607
        return wrong or run_with_room(words, data, output, whole)


def trial_with_small_files(words: tuple[str, ...], data: Path, output: Path, whole: dict[str, bytes], size: int) -> str:
    output.parent.mkdir()
    with file_limit(size):
        wrong = run_without_room(words, data, output)
    return wrong or run_with_room(words, data, output, whole)


def main() -> None:
    wrongs, count = [], 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = write_images(root / "images")
        for words in (TRAIN, COMPARE):
            output = root / words[0] / "run"
            start(words, data, output).communicate()
            whole = contents(output)
            sizes = [path.stat().st_size for path in output.rglob("*") if path.is_file()]
            for moment in range(MOMENTS):
                share = (moment + 0.5) / MOMENTS
                disk, files = (root / f"{words[0]}-{kind}-{moment}" / "run" for kind in ("disk", "files"))
                space, most = max(4096, int(share * sum(sizes))), int(share * max(sizes))
                found = {
                    f"a disk of {space:,} bytes": trial_on_a_small_disk(
                        words, data, disk, whole, space, 100 * sum(sizes)
                    ),
                    f"files of {most:,} bytes": trial_with_small_files(words, data, files, whole, most),
                }
                count += len(found)
                wrongs += [f"{words[0]}, {what}: {wrong}" for what, wrong in found.items() if wrong]
                print(f"{count} trials, {len(wrongs)} wrong", file=sys.stderr, flush=True)
    print(f"# Commands without room to write\n\n{processor()}, {cores()} cores. Trials: {count}.\n")
    print(f"Trials with another end than one line, or another result once there was room: {len(wrongs)}.")
    print("".join(f"- {each}\n" for each in wrongs), end="")


if __name__ == "__main__":
    main()

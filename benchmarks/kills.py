"""Kill training runs and comparisons at random moments, run the same command again, and compare with undisturbed ones.

    python -m benchmarks.kills [--kills 50] [--interrupts 20] [--seed 0] > benchmarks/kills.md

SIGKILL and SIGINT are sent to `foveal train` and `foveal compare`, to the parent process alone or to its whole group.
After each, no process of it may be left within five seconds, and no temporary file after the next run; an interrupted
command prints one line and exits with 130. The same command is repeated, and may be killed again, until it ends; its
folder must then equal that of an undisturbed command: weights, figures and predictions byte by byte.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from PIL import Image

from foveal.profiling.environment import cores, processor

IMAGES, SIZE = 60, 16
TRAIN = ("train", "--model", "small_cnn+se", "--epochs", "3")
COMPARE = ("compare", "none", "se", "--seeds", "2", "--epochs", "2")
RECIPE = ("--batch-size", "8", "--image-size", str(SIZE))
EQUAL = ("best.safetensors", "last.safetensors", "metrics.jsonl", "predictions.csv", "split.json", "config.yaml",
         "results.json", "results.csv", "comparison.json", "audit.json", "score.json")  # fmt: skip
WAIT = 5.0  # seconds until no process may be left


def write_images(folder: Path) -> Path:
    """Write images of two classes, dark and bright."""
    draw = random.Random(0)  # noqa: S311
    for index in range(IMAGES):
        name = ("dark", "bright")[index % 2]
        (folder / name).mkdir(parents=True, exist_ok=True)
        grey = draw.randrange(120) + 120 * (index % 2)
        Image.new("L", (SIZE, SIZE), grey).save(folder / name / f"{index}.png")
    return folder


def start(words: tuple[str, ...], data: Path, output: Path) -> subprocess.Popen[str]:
    """Start a command in a session and a process group of its own.

    SIGINT acts on it even where this process ignores it, as one in the background of a shell's script does.
    """
    command = [sys.executable, "-m", "foveal", *words, *RECIPE, "--data", f"folder:{data}", "--output", str(output)]
    return subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONFAULTHANDLER": "1"},
    )  # fmt: skip


def session_members(number: int) -> list[int]:
    """List the running processes of a session, in the system's table: a command with all its workers."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                session = int(fields[3])
            except OSError:
                continue
            if session == number and fields[0] != "Z":
                found.append(int(folder.name))
    return found


def stop(process: subprocess.Popen[str], number: int, whole_group: bool, seconds: float = WAIT) -> str:
    """Send a signal; return what is wrong afterwards, or an empty text. No process may be left after `seconds`."""
    (os.killpg if whole_group else os.kill)(process.pid, number)
    begin = time.monotonic()
    try:
        _, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGABRT)  # so that it says where it is
        time.sleep(1)
        os.killpg(process.pid, signal.SIGKILL)
        return f"did not end within {seconds:.0f} s: {process.communicate()[1]}"
    while left := session_members(process.pid):
        if time.monotonic() - begin > seconds:
            for each in left:
                os.kill(each, signal.SIGKILL)
            return f"{len(left)} processes left after {seconds:.0f} s"
        time.sleep(0.05)
    if number != signal.SIGKILL and process.returncode != 0:
        lines = [line for line in errors.splitlines() if line]
        if process.returncode != 128 + number or len(lines) != 1 or "the same command continues" not in lines[0]:
            return f"exit code {process.returncode}, {errors[-300:]!r}"
    return ""


def contents(folder: Path) -> dict[str, bytes]:
    """Read the files of a folder that must be equal; other files are listed by name."""
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() if path.name in EQUAL else b"" for name, path in files.items()}


def trial(words: tuple[str, ...], data: Path, output: Path, number: int, whole_group: bool, seconds: float) -> str:
    """Disturb a command once, repeat it to its end; return what is wrong, or an empty text."""
    process = start(words, data, output)
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        wrong = stop(process, number, whole_group)
        if wrong:
            return wrong
    again = start(words, data, output)
    _, errors = again.communicate()
    finished = again.returncode == 2 and "holds a finished run" in errors  # by the first process, before the signal
    return "" if again.returncode == 0 or finished else f"again: exit code {again.returncode}, {errors[-300:]!r}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--interrupts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
    draw = random.Random(options.seed)  # noqa: S311
    numbers = [signal.SIGKILL] * options.kills + [signal.SIGINT] * options.interrupts
    counts: Counter[tuple[str, str, str]] = Counter()
    wrongs = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = write_images(root / "images")
        whole, seconds = {}, {}
        for words in (TRAIN, COMPARE):
            begin = time.monotonic()
            start(words, data, root / words[0]).communicate()
            seconds[words] = time.monotonic() - begin
            whole[words] = contents(root / words[0])
        for index, number in enumerate(numbers):
            words, whole_group = (TRAIN, COMPARE)[index % 2], bool(index // 2 % 2)
            moment = draw.uniform(0.5, seconds[words])
            output = root / f"{words[0]}-{index}"
            wrong = trial(words, data, output, number, whole_group, moment)
            wrong = wrong or difference(whole[words], contents(output))
            counts[words[0], signal.Signals(number).name, "group" if whole_group else "parent alone"] += 1
            if wrong:
                wrongs.append(f"{index}: {words[0]}, {signal.Signals(number).name} after {moment:.2f} s: {wrong}")
                print(wrongs[-1], file=sys.stderr, flush=True)
    print(
        f"# Commands killed at random moments, then repeated\n\n{processor()}, {cores()} cores; seed {options.seed}.\n"
    )
    print("| command | signal | sent to | trials |\n| --- | --- | --- | --- |")
    for key, count in sorted(counts.items()):
        print(f"| {' | '.join(key)} | {count} |")
    print(f"\nNot equal to the undisturbed command, or left something: {len(wrongs)}.")
    print("".join(f"- {each}\n" for each in wrongs), end="")


def difference(expected: dict[str, bytes], found: dict[str, bytes]) -> str:
    """Return the first file that is missing, too many or different, or an empty text."""
    names = sorted(set(expected) | set(found))
    return next((f"{name} differs" for name in names if expected.get(name) != found.get(name)), "")


if __name__ == "__main__":
    main()

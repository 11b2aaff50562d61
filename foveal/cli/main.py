"""The command: its subcommands by name, its error messages, and what signals do."""

import atexit
import os
import signal
import sys
import traceback
from contextlib import suppress
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from threading import Timer
from types import FrameType
from typing import Any, NoReturn

from cyclopts import App, CycloptsError
from cyclopts.config import Dict

from foveal.cli.check_data import check_data
from foveal.cli.console import progress_lines
from foveal.cli.launch import check_launch, is_main_process, may_speak, process_name, wait_to_be_ended
from foveal.cli.lists import list_names
from foveal.cli.models import audit, export, look, score
from foveal.cli.predictions import predict
from foveal.cli.reproduce import reproduce
from foveal.cli.runs import compare, train
from foveal.core.files import output_path
from foveal.core.functions import names_function
from foveal.core.names import one_line
from foveal.core.progress import progress_shown

app = App(
    name="foveal",
    version=version("foveal"),
    suppress_keyboard_interrupt=False,
    help="Visual attention: add it, see it, trust it, find out if it pays.\n\n--debug shows where an error arose.",
)
app.command(list_names, name="list")
for verb in (check_data, train, predict, compare, look, audit, score, export, reproduce):
    app.command(verb)

EXPECTED = (CycloptsError, ValueError, TypeError, OSError, FloatingPointError)  # by what the user handed over
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
PATIENCE = 3.0  # seconds after a signal


class Interrupted(KeyboardInterrupt):
    """A signal that ends the command; `args` holds its number, and the timer that ends the process if this is lost."""


def command() -> NoReturn:
    """Run the command as a process of its own, and end it at once: in Python's own end a signal would kill it."""
    try:
        main()
    except SystemExit as stopped:
        leave(stopped.code if isinstance(stopped.code, int) else 0)
    leave(0)


def main() -> None:
    """Run the command. An error prints one line; the exit code is 2, or 1 for an error that is not the user's."""
    debug = "--debug" in sys.argv
    arguments = [each for each in sys.argv[1:] if each != "--debug"]
    catch_signals()
    if not is_main_process():
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 (the process ends with it)
    try:
        check_launch(arguments)
        app.config = config_sources(arguments)
        with progress_shown(progress_lines()):
            app(arguments, exit_on_error=False, print_error=False)
        ignore_signals()  # the work is done
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output has ended, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        ignore_signals()
        if debug:
            traceback.print_exc()
        print_error(error)
        sys.exit(2 if isinstance(error, EXPECTED) else 1)
    except KeyboardInterrupt as error:
        number, late = error.args or (signal.SIGINT, Timer(PATIENCE, end_late))
        late.cancel()  # it would print the line again
        print_interrupted(number)
        leave(128 + number)


def leave(code: int) -> NoReturn:
    """End the process without Python's own end, which takes seconds; exit functions release semaphores and the like.

    One that waits for a process that does not end is left after `PATIENCE` seconds.
    """
    with suppress(OSError):
        sys.stdout.flush()
    late = Timer(PATIENCE, os._exit, (code,))
    late.daemon = True
    late.start()
    atexit._run_exitfuncs()
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(code)


def print_error(error: Exception) -> None:
    """Print a line on an error."""
    if not is_main_process():
        wait_to_be_ended(error)
    print(f"foveal: {process_name()}{describe(error)}", file=sys.stderr, flush=True)


def print_interrupted(number: int) -> None:
    """Print that the command was interrupted, and whether the same one continues."""
    if not may_speak(number):
        return
    continues = {"train", "compare", "reproduce"} & set(sys.argv[1:3])
    more = "; the same command continues after the last epoch that was stored" if continues else ""
    with suppress(OSError):
        print(f"\nfoveal: interrupted{more}", file=sys.stderr, flush=True)


def end_late(number: int) -> None:
    """End the process from another thread; workers end with their parent."""
    print_interrupted(number)
    os._exit(128 + number)


def catch_signals() -> None:
    """Make signals raise `Interrupted`, so that worker processes are ended; ignored ones stay so, as under nohup."""
    for name in SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise `Interrupted` once; later signals do not disturb the end.

    Python swallows an exception in some places, as a destructor: then the process ends after `PATIENCE` seconds.
    """
    ignore_signals()
    late = Timer(PATIENCE, end_late, (number,))
    late.daemon = True
    late.start()
    raise Interrupted(number, late)


def ignore_signals() -> None:
    for name in SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def describe(error: Exception) -> str:
    """Return a line on an error; one that is not expected names its class and the way to its place."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, EXPECTED):
        return one_line(error)
    return f"{type(error).__name__}: {one_line(error)} (--debug shows where)"


def config_sources(arguments: list[str]) -> list[Dict]:
    """Return the sources of settings besides flags, which come first: the file of `--config`, and a run to resume."""
    paths = [Path(path) for path in values("config", arguments)]
    if "--resume" in arguments:
        runs = [output_path(folder) / "config.yaml" for folder in values("output", arguments)]
        paths += [path for path in runs if path.is_file()]
    if not paths:
        return []
    from foveal.training.config import CompareConfig, RunConfig
    from foveal.training.read_config import read_settings

    kind = CompareConfig if arguments[0] == "compare" else RunConfig
    found = {path: stated(read_settings(path, kind)) for path in paths}
    for path, settings in found.items():
        check_functions(path, settings, arguments)
    return [Dict(settings, use_commands_as_keys=False, source=str(path)) for path, settings in found.items()]


def check_functions(path: Path, settings: dict[str, Any], arguments: list[str]) -> None:
    """Refuse a function that a file alone names: its module would be imported."""
    for name in ("model", "backbone", "data"):
        value = settings.get(name, "")
        if names_function(value.partition("+")[0]) and not values(name, arguments):
            raise ValueError(
                f"{path}: {name}={value!r:.80} names a function, which only you can name: add --{name} {value:.80}"
            )


def stated(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that have a value."""
    return {name: value for name, value in settings.items() if value is not None}


def values(flag: str, arguments: list[str]) -> list[str]:
    """Return the values of a flag among the arguments."""
    named = [value for name, value in pairwise(arguments) if name == f"--{flag}"]
    return named + [each.partition("=")[2] for each in arguments if each.startswith(f"--{flag}=")]

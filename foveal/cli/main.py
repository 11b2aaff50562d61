"""The command: its subcommands by name, and its error messages."""

import sys
from importlib.metadata import version
from itertools import pairwise

from cyclopts import App, CycloptsError
from cyclopts.config import Yaml

from foveal.cli.lists import list_names
from foveal.cli.models import audit, export, look, score
from foveal.cli.runs import compare, train
from foveal.core.names import one_line

app = App(
    name="foveal", version=version("foveal"), help="Visual attention: add it, see it, trust it, find out if it pays."
)
app.command(list_names, name="list")
for verb in (train, compare, look, audit, score, export):
    app.command(verb)


def main() -> None:
    """Run the command. An error of the user prints one line and exits with code 2."""
    try:
        app.config = config_file(sys.argv)
        app(sys.argv[1:], exit_on_error=False, print_error=False)
    except (CycloptsError, ValueError, TypeError, FileNotFoundError) as error:
        print(f"foveal: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("foveal: interrupted", file=sys.stderr)
        sys.exit(130)


def config_file(arguments: list[str]) -> list[Yaml]:
    """Read the file that `--config` names; flags override its values."""
    named = [value for flag, value in pairwise(arguments) if flag == "--config"]
    named += [each.partition("=")[2] for each in arguments if each.startswith("--config=")]
    return [Yaml(path, must_exist=True, use_commands_as_keys=False) for path in named]

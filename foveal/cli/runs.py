"""Verbs that train: train, compare."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from foveal.cli.console import console, progress
from foveal.core.names import slug
from foveal.training.config import CompareConfig, RunConfig

Flags = Parameter(name="*")


def train(
    settings: Annotated[RunConfig | None, Flags] = None,
    *,
    output: Path | None = None,
    resume: bool = False,
    config: Path | None = None,
    print_config: bool = False,
) -> None:
    """Train a network and keep the run in a folder.

    Parameters
    ----------
    output
        The run's folder; runs/MODEL-SEED if left out.
    resume
        Go on where the run in the folder stopped; its settings are those that the folder holds.
    config
        A YAML file of settings; flags that are given beside it win.
    print_config
        Print the settings and do nothing.
    """
    import yaml

    held = output / "config.yaml" if output and resume else None
    if held and not held.is_file():
        raise ValueError(f"output={str(output)!r} holds no run to resume")
    if settings is None and held:
        settings = RunConfig(**yaml.safe_load(held.read_text()))
    settings = settings or RunConfig()
    if print_config:
        print(yaml.safe_dump(asdict(settings), sort_keys=False), end="")
        return
    from foveal.training.train import train as train_network

    folder = output or Path("runs") / slug(f"{settings.model}-{settings.seed}")
    with progress("training") as report_progress:
        result = train_network(settings, folder, resume=resume, on_step=report_progress, on_epoch=print_epoch)
    left_out = json.loads((folder / "split.json").read_text())["skipped"]
    for name, reason in left_out.items():
        print(f"left out {name}: {reason}")
    print(
        f"test accuracy {100 * result.accuracy:.2f} %, balanced {100 * result.balanced_accuracy:.2f} % "
        f"(epoch {result.best_epoch}, chosen on validation)"
    )
    print(folder)


def print_epoch(line: dict[str, Any]) -> None:
    console.print(
        f"epoch {line['epoch']}: loss {line['train_loss']:.4f}, "
        f"validation accuracy {100 * line['validation_accuracy']:.2f} %, {line['seconds']:.1f} s"
    )


def compare(
    *contenders: str,
    settings: Annotated[CompareConfig | None, Flags] = None,
    output: Path | None = None,
    dry_run: bool = False,
    config: Path | None = None,
) -> None:
    """Train contenders over several seeds, judge whether any is better, and write a report. Without any, the main job.

    Parameters
    ----------
    contenders
        none for the plain backbone; a mechanism with its options (sk:groups=8); wider or deeper for the plain backbone
        as large as the dearest of them (wider:match=macs, wider:match=ms); NAME=CONTENDER gives another name.
    output
        The folder; runs/DATA-BACKBONE if left out. The same comparison is continued there.
    dry_run
        Print the plan with its estimated minutes, and stop.
    config
        A YAML file with the settings; flags that are given beside it win.
    """
    from foveal.comparison.compare import run_plan
    from foveal.comparison.plan import CONTENDERS, make_plan
    from foveal.reports.comparison_page import write_report
    from foveal.reports.tables import costs_table, results_table

    plan = make_plan(contenders or CONTENDERS, settings or CompareConfig(), output)
    print(plan)
    if dry_run:
        return
    with progress("comparing") as report_progress:
        result = run_plan(plan, report_progress)
    for head, *rows in (results_table(result), costs_table(result)):
        table = Table(*head, box=None)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for each in result.rows:
        for seed, reason in each.failed.items():
            print(f"{each.name}, seed {seed} failed: {reason}")
    print(write_report(result))

"""The subcommand `reproduce`: experiments of the papers, and the figures that were obtained from them."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from foveal.cli.console import OutputPath, print_line, print_table, progress


def reproduce(
    name: str | None = None,
    *,
    quick: bool = False,
    data: str | None = None,
    output: Annotated[Path | None, OutputPath] = None,
    overwrite: bool = False,
    dry_run: bool = False,
    cluster: str | None = None,
) -> None:
    """Run an experiment of a paper and print its figures beside the paper's. Without a name, list the experiments.

    Parameters
    ----------
    name
        Of the experiment.
    quick
        Fewer epochs and seeds, for a look within minutes; the figures are worse than the paper's.
    data
        Where the data is on this machine, for an experiment on images that foveal cannot obtain.
    output
        The folder; runs/NAME if left out. The same experiment is continued there.
    overwrite
        Replace another comparison in the folder, or files that foveal did not write.
    dry_run
        Print the plan with its estimated minutes, without training.
    cluster
        As for compare: auto, or ray://HOST:PORT.
    """
    from foveal.comparison.experiments import find_experiment
    from foveal.reports.reproduction import list_table, reproduction_lines, reproduction_table

    if name is None:
        head, *rows = list_table()
        print_table(head, rows)
        print("foveal reproduce NAME runs one; minutes are those of training, of all seeds, with one thread each:")
        print("by the clock, and in brackets those in which the processor worked")
        return
    experiment = find_experiment(name)
    print(f"{experiment.title} ({experiment.source})")

    from foveal.comparison.cluster import cluster_size
    from foveal.comparison.reproduce import plan_experiment, run_experiment
    from foveal.reports.comparison_page import write_report

    plan = plan_experiment(experiment, quick, data, output, overwrite, dry_run)
    if cluster is not None:
        plan = replace(plan, parallel=cluster_size(cluster))
    print(plan)
    if dry_run:
        return
    with progress("reproducing") as report_progress:
        result = run_experiment(experiment, plan, quick, report_progress, overwrite=overwrite, cluster=cluster)
    head, *rows = reproduction_table(result)
    print_table(head, rows)
    for line in reproduction_lines(result):
        print_line(line)
    print(write_report(result.comparison))

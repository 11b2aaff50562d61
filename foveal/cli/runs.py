"""Subcommands that train: train, compare."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from foveal.cli.console import OutputPath, print_line, print_remarks, print_table, progress
from foveal.cli.launch import is_main_process
from foveal.core.names import slug
from foveal.training.config import CompareConfig, RunConfig

if TYPE_CHECKING:
    from foveal.training.run_figures import MultiLabelResult, Result

Flags = Parameter(name="*")


def train(
    settings: Annotated[RunConfig | None, Flags] = None,
    *,
    output: Annotated[Path | None, OutputPath] = None,
    resume: bool = False,
    overwrite: bool = False,
    config: Path | None = None,
    print_config: bool = False,
) -> None:
    """Train a network and store the run in a folder. The same command continues an interrupted run.

    Parameters
    ----------
    output
        Folder of the run; runs/MODEL-SEED if left out.
    resume
        Take the settings of the run in the folder, except those that are given. More epochs continue a finished run.
    overwrite
        Replace the run in the folder, or files that foveal did not write.
    config
        A YAML file of settings; flags override it.
    print_config
        Print the settings without training.
    """
    import yaml

    if resume and not (output and (output / "config.yaml").is_file()):
        raise ValueError(f"--resume: output={str(output or '')!r} holds no run; name its folder with --output")
    settings = settings or RunConfig()
    if print_config:
        print(yaml.safe_dump(asdict(settings), sort_keys=False), end="")
        return
    from foveal.reports.confusion import HEAD, write_confusion
    from foveal.training.processes import describe_processes
    from foveal.training.run_folder import describe_more_epochs, read_split
    from foveal.training.train import train as train_network

    folder = output or Path("runs") / slug(f"{settings.model}-{settings.seed}")
    if resume:
        print(describe_more_epochs(folder, settings), end="")
    print(describe_processes(settings), end="")
    with progress("training") as report_progress:
        result = train_network(
            settings, folder, resume=resume, overwrite=overwrite, on_step=report_progress, on_epoch=print_epoch
        )
    if not is_main_process():
        return
    split = read_split(folder)
    print_remarks(split["skipped"], split["notes"])
    rows, remark = write_confusion(folder)
    if rows:
        print_table(HEAD[: len(rows[0])], rows)
    print(remark, end="\n" * bool(remark))
    print(described(result))
    print(folder)


def described(result: "Result | MultiLabelResult") -> str:
    """Describe the figures of the test part."""
    from foveal.data.parts import listed
    from foveal.training.run_figures import Result

    chosen = f"(epoch {result.best_epoch}, chosen on validation)"
    if isinstance(result, Result):
        return f"test accuracy {100 * result.accuracy:.2f} %, {balanced(result)} {chosen}{calibration(result)}"
    of = f"; no test image of {listed(result.absent)}" if result.absent else ""
    return f"test mAP {100 * result.mean_average_precision:.2f} %, the mean average precision over classes {chosen}{of}"


def balanced(result: "Result") -> str:
    """Describe the balanced accuracy, or why it is not computed."""
    if result.balanced_accuracy is not None:
        return f"balanced {100 * result.balanced_accuracy:.2f} %"
    from foveal.data.parts import listed

    return f"balanced accuracy not computed: no test image of {listed(result.absent)}"


def calibration(result: "Result") -> str:
    """Describe the calibration error, which older runs do not store."""
    error = result.calibration_error
    return "" if error is None else f"; expected calibration error {100 * error:.2f} %"


def print_epoch(line: dict[str, Any]) -> None:
    from foveal.training.run_figures import ACCURACY, validation_figure

    what = "accuracy" if ACCURACY in line else "mAP"
    print_line(
        f"epoch {line['epoch']}: loss {line['train_loss']:.4f}, "
        f"validation {what} {100 * validation_figure(line):.2f} %, {line['seconds']:.1f} s; "
        f"{line['images_per_second']:,.0f} images/s, {100 * line['waiting']:.0f} % waiting for data"
    )


def compare(
    *contenders: str,
    settings: Annotated[CompareConfig | None, Flags] = None,
    output: Annotated[Path | None, OutputPath] = None,
    overwrite: bool = False,
    dry_run: bool = False,
    cluster: str | None = None,
    config: Path | None = None,
) -> None:
    """Train contenders over several seeds, test whether any is better, and write a report. Without any, the main job.

    Parameters
    ----------
    contenders
        none for the plain backbone; a mechanism with its options (sk:groups=8); wider or deeper for the plain backbone
        as large as the most expensive of them (wider:match=macs, wider:match=ms); NAME=CONTENDER gives another name.
    output
        The folder; runs/DATA-BACKBONE if left out. A comparison with the same settings is continued there.
    overwrite
        Replace another comparison in the folder, or files that foveal did not write.
    dry_run
        Print the plan with its estimated minutes, without training.
    cluster
        Run on a Ray cluster: auto for the one that this machine belongs to, or ray://HOST:PORT. The folder is then in a
        file system that its machines share.
    config
        A YAML file of settings; flags override it.
    """
    from foveal.comparison.cluster import cluster_size
    from foveal.comparison.compare import run_plan
    from foveal.comparison.contenders import CONTENDERS
    from foveal.comparison.plan import make_plan
    from foveal.reports.answer import answer
    from foveal.reports.comparison_page import write_report
    from foveal.reports.sentences import failures
    from foveal.reports.tables import results_table

    plan = make_plan(contenders or CONTENDERS, settings or CompareConfig(), output, overwrite)
    if cluster is not None:
        plan = replace(plan, parallel=cluster_size(cluster))
    print(plan)
    if dry_run:
        return
    with progress("comparing") as report_progress:
        result = run_plan(plan, report_progress, overwrite=overwrite, cluster=cluster)
    print_line(answer(result))
    head, *rows = results_table(result)
    print_table(head, rows)
    for row in result.rows:
        for reason in failures(result, row):
            print_line(f"{row.name}: {reason}")
    print(write_report(result))

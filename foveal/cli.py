"""The command: its verbs. Logic lives elsewhere; heavy imports happen inside the verbs."""

import json
import sys
from dataclasses import asdict, astuple, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter
from cyclopts.config import Yaml
from rich.table import Table

from foveal import __version__
from foveal.naming import slug
from foveal.settings import Recipe, Settings
from foveal.telling import console, in_millions, one_line, progress, written

app = App(name="foveal", version=__version__, help="Visual attention: add it, see it, trust it, find out if it pays.")
Flags = Parameter(name="*")


def main() -> None:
    """Run the command. What a user got wrong is one line and exit code 2."""
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
    """The settings' file that `--config` names: what it says counts where no flag does."""
    named = [value for flag, value in pairwise(arguments) if flag == "--config"]
    named += [each.partition("=")[2] for each in arguments if each.startswith("--config=")]
    return [Yaml(path, must_exist=True, use_commands_as_keys=False) for path in named]


@app.command(name="list")
def list_names(*, models: bool = False, places: bool = False) -> None:
    """The mechanisms with their facts, the networks, or the places.

    Parameters
    ----------
    models
        Print the networks instead.
    places
        Print where attention stands in whose blocks instead.
    """
    if models:
        list_networks()
        return
    if places:
        from foveal.places import list_places

        table = Table("family", "blocks", "stands", "sk instead of", "positions", box=None)
        for row in list_places():
            table.add_row(*astuple(row))
        console.print(table)
        print("and by at='residual' at the end of every residual branch of any other network")
        return
    from foveal.mechanisms import CHANNELS, list_mechanisms

    table = Table("name", "long name", "domain", "kind", "stands", f"parameters at {CHANNELS}", "paper", box=None)
    for each in list_mechanisms():
        table.add_row(
            each.name, each.long_name, each.domain, each.kind, each.attaches, f"{each.parameters:,}", each.paper
        )
    console.print(table)


def list_networks() -> None:
    """A row for each network; in millions, the paper's figures beside ours."""
    from foveal.networks.listing import Reported, describe_models

    table = Table("name", "made of", box=None, pad_edge=False)
    for head in ("image", "weights", "paper", "MACs", "paper"):
        table.add_column(head, justify="right")
    table.add_column("source")
    for each in describe_models():
        said = each.reported or Reported("")
        table.add_row(
            each.name,
            f"{each.backbone}+{each.mechanism}" if each.mechanism else "",
            str(each.image[-1]),
            in_millions(each.parameters / 1e6),
            in_millions(said.parameters),
            in_millions(each.macs / 1e6),
            in_millions(said.macs),
            said.source,
        )
    console.print(table)
    print(
        "weights and MACs in millions, for one image of that side (Hu et al., 2018; Li et al., 2019; Woo et al., 2018)"
    )
    print("and any timm network, alone or with attention: resnet18+cbam, convnext_tiny+se")


@app.command
def train(
    settings: Annotated[Settings | None, Flags] = None,
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
        settings = Settings(**yaml.safe_load(held.read_text()))
    settings = settings or Settings()
    if print_config:
        print(yaml.safe_dump(asdict(settings), sort_keys=False), end="")
        return
    from foveal.training import train as train_network

    folder = output or Path("runs") / slug(f"{settings.model}-{settings.seed}")
    with progress("training") as tell:
        result = train_network(settings, folder, resume=resume, on_step=tell, on_epoch=print_epoch)
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


@app.command
def compare(
    *contenders: str,
    recipe: Annotated[Recipe | None, Flags] = None,
    backbone: str | None = None,
    seeds: int | None = None,
    tune: int = 0,
    full: bool = False,
    output: Path | None = None,
    dry_run: bool = False,
    config: Path | None = None,
) -> None:
    """Train contenders over several seeds, say whether any is better, and write a report. Without any, the main job.

    Parameters
    ----------
    contenders
        none for the plain backbone; a mechanism with its options (sk:groups=8); wider or deeper for the plain backbone
        as large as the dearest of them (wider:match=macs, wider:match=ms); NAME=CONTENDER gives another name.
    backbone
        Any network's name; small_cnn if left out.
    seeds
        How many; 3 if left out.
    tune
        Trials by which each contender's learning rate is searched for.
    full
        The longer version: ten seeds, thirty epochs.
    output
        The folder; runs/DATA-BACKBONE if left out. The same comparison is continued there.
    dry_run
        Print the plan with its estimated minutes, and stop.
    config
        A YAML file with the recipe; flags that are given beside it win.
    """
    from foveal.comparison.comparing import run_plan
    from foveal.comparison.plans import BACKBONE, CONTENDERS, FULL, SEEDS, make_plan
    from foveal.comparison.report import write_report
    from foveal.comparison.tables import costs_table, results_table

    recipe = recipe or Recipe()
    if full:
        recipe = replace(recipe, epochs=FULL["epochs"])
    if seeds is None:
        seeds = FULL["seeds"] if full else SEEDS
    plan = make_plan(contenders or CONTENDERS, backbone or BACKBONE, seeds, recipe, output, tune)
    print(plan)
    if dry_run:
        return
    with progress("comparing") as tell:
        result = run_plan(plan, tell)
    for head, *rows in (results_table(result), costs_table(result)):
        table = Table(*head, box=None)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for each in result.rows:
        for seed, reason in each.failed.items():
            print(f"{each.name}, seed {seed} failed: {reason}")
    print(write_report(result))


@app.command
def look(model: str, *images: str, output: Path = Path("look.png"), most: int = 6) -> None:
    """Draw what a network attends to, and write a page to browse it by place and by image.

    Parameters
    ----------
    model
        A run folder, a checkpoint, or a network's name.
    images
        A data set, of whose test part the first images are taken, or image files.
    output
        The picture: PNG, SVG or PDF. The page is written beside it, with the ending html.
    most
        How many images to draw.
    """
    from foveal.browsing import write_page
    from foveal.looking import look as look_at

    looked = look_at(model, images, most)
    for name, reason in looked.skipped.items():
        print(f"skipped {name}: {reason}")
    print(looked.picture.save(output))
    print(write_page(looked, output.with_suffix(".html")))


@app.command
def audit(model: str, data: str, *, output: Path | None = None) -> None:
    """Find out whether a network's attention does anything. The exit code is 1 where there is a fault.

    Parameters
    ----------
    model
        A run folder, a checkpoint, or a network's name.
    data
        A data set, whose validation part is looked at.
    output
        The findings as JSON; audit.json in the run's folder, or here for a network by name, if left out.
    """
    from foveal.auditing import audit as audit_network
    from foveal.opening import open_model

    opened = open_model(model)
    with progress("auditing") as tell:
        audited = audit_network(opened.network, opened.batches(opened.load(data).validation, tell))
    print(audited)
    print(written(audited.to_json(), output, model, "audit.json"))
    sys.exit(1 if audited.faults else 0)


@app.command
def score(model: str, data: str, *, output: Path | None = None) -> None:
    """Find out whether a network's attention looks at the object, and whether the network needs it.

    Parameters
    ----------
    model
        A run folder, a checkpoint, or a network's name.
    data
        A data set: its test part is scored, its validation part serves for every choice. Where the object is, is known
        of distorted digits.
    output
        The score as JSON; score.json in the run's folder, or here for a network by name, if left out.
    """
    from foveal.opening import open_model
    from foveal.scoring import score as score_network

    opened = open_model(model)
    parts = opened.load(data)
    with progress("scoring") as tell:
        scored = score_network(
            opened.network, opened.batches(parts.test), opened.batches(parts.validation), on_progress=tell
        )
    print(scored)
    print(written(scored.to_json(), output, model, "score.json"))


@app.command
def export(model: str, *, output: Path = Path("model.onnx"), attention: bool = False) -> None:
    """Write a network as a file for other runtimes, and check it against the network.

    Parameters
    ----------
    model
        A run folder, a checkpoint, or a network's name.
    output
        The file: ONNX, or .pt2 for torch.export.load.
    attention
        Give each mechanism's weights as a further output.
    """
    import torch

    from foveal.deployment.exporting import export as export_network
    from foveal.opening import open_model

    opened = open_model(model)
    exported = export_network(opened.network, torch.randn(2, *opened.shape), output, attention=attention)
    print(exported)
    print(exported.path)


@app.command
def bench(
    *parts: str,
    threads: Annotated[tuple[int, ...], Parameter(consume_multiple=True)] = (),
    rounds: int = 15,
    note: Path | None = None,
    output: Path = Path("bench"),
) -> None:
    """Measure how fast attention is, beside timm's, torchvision's and the network without; a quarter of an hour.

    Parameters
    ----------
    parts
        units, warps, watching, tails, kernels, deployed, training; all if left out.
    threads
        How many, one number after the other; 1 2 if left out.
    rounds
        In which the contenders take turns.
    note
        A file with the study note's code, to be measured beside.
    output
        The figures; the endings md, json and png are added.
    """
    from foveal.benchmark.bench import bench as measure
    from foveal.benchmark.bench import circumstances
    from foveal.benchmark.results import line_of, write_results

    paths: list[Path] = []
    for found in measure(parts, threads, rounds, note, lambda row: print(line_of(row), flush=True)):
        paths = write_results(found, circumstances(rounds, note), output)
    for path in paths:
        print(path)

"""Write `reproductions.md` from the descriptions of the experiments and the figures that were kept.

python docs/reproductions.py              write the page
python docs/reproductions.py --check      compare the page with descriptions and figures; write nothing
python docs/reproductions.py FOLDER ...   keep the figures and pictures of experiments that were run there, then write
"""

import json
import shutil
import sys
from pathlib import Path
from statistics import mean

import foveal
from foveal.comparison.experiments import Experiment, list_experiments, read_kept
from foveal.comparison.reproduce import FILE
from foveal.reports.reproduction import HEAD, kept_lines
from foveal.reports.tables import markdown

DOCS = Path(__file__).resolve().parent
PAGE, PICTURES = DOCS / "reproductions.md", DOCS / "results"
PACKAGE = Path(foveal.__file__).resolve().parent
STORED = PACKAGE / "comparison/experiments"
BY_DATA = "attention-"  # the experiments of one table
HEADING = """# Experiments of the papers

`foveal reproduce` lists these experiments, and `foveal reproduce NAME` runs one through `foveal compare`: the same
runs, folders, verdicts and report. `--quick` ends within minutes, with worse figures. MNIST is downloaded by
torchvision; `FOVEAL_DATA` names the folder that holds it. "here" is the mean over seeds, with the 95 % interval of
Student's t; minutes are those of training, of all seeds together, with one thread each: by the clock, which has more of
them where the machine had other work, and in brackets those in which the processor worked, where they were kept. Under
each table: the verdict on the contenders, and what differs from the paper.
"""


def section(experiment: Experiment) -> str:
    """Write the section of one experiment."""
    kept = read_kept(experiment.name)
    parts = [
        f"## {experiment.title}",
        f"{experiment.source}. `foveal reproduce {experiment.name}`",
        markdown([[*HEAD], *kept_lines(experiment, kept)]).rstrip(),
    ]
    if experiment.cost:
        parts.append(f"Expected cost: {experiment.cost}")
    if kept and kept.verdicts:
        baseline = experiment.contenders[0]
        parts.append("\n".join(f"- `{name}` against `{baseline}`: {label}" for name, label in kept.verdicts.items()))
    parts.append("\n".join(f"- {change}" for change in experiment.changes))
    if experiment.tried:
        parts.append("Tried, since a figure misses the paper's:")
        parts.append("\n".join(f"- {each}" for each in experiment.tried))
    parts += [f"![{path.stem}](results/{experiment.name}/{path.name})" for path in pictures(experiment.name)]
    if kept and any(kept.scores.values()):
        scored = [f"{name}: {line}" for name, own in kept.scores.items() for line in own]
        parts.append("```text\n" + "\n".join(scored) + "\n```")
    if kept:
        parts.append(f"{kept.machine}.")
    return "\n\n".join(parts)


def attention_by_data() -> str:
    """Write one table of the experiments that compare the same contenders on other data: error and verdict of each."""
    run = {name: kept for name in list_experiments() if name.startswith(BY_DATA) and (kept := read_kept(name))}
    if not run:
        return ""
    lines = [["", *(name.removeprefix(BY_DATA) for name in run)]]
    for entry in list_experiments()[next(iter(run))].entries:
        verdicts = [kept.verdicts.get(entry.contender, "the baseline") for kept in run.values()]
        errors = [mean(kept.values[entry.name].values()) for kept in run.values()]
        lines.append([entry.name, *(f"{error:.2f} %, {own}" for error, own in zip(errors, verdicts, strict=True))])
    return f"## Which attention pays where\n\n{markdown(lines).rstrip()}"


def pictures(name: str) -> list[Path]:
    """Return the kept pictures of an experiment."""
    return sorted((PICTURES / name).glob("*.png"))


def page() -> str:
    """Write the whole page."""
    parts = [HEADING.rstrip(), attention_by_data(), *map(section, list_experiments().values())]
    return "\n\n".join(filter(None, parts)) + "\n"


def keep(folder: Path) -> None:
    """Copy figures and pictures of an experiment that was run."""
    stated = json.loads((folder / FILE).read_text())
    if stated["quick"]:
        sys.exit(f"docs/reproductions.py: {folder} holds a quick run, which is not kept")
    name = stated["experiment"]
    shutil.copyfile(folder / FILE, STORED / f"{name}.json")
    (PICTURES / name).mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.png"):
        shutil.copyfile(path, PICTURES / name / path.name)


def main() -> None:
    if PACKAGE.parent != DOCS.parent:
        sys.exit(f"docs/reproductions.py: Python imports foveal from {PACKAGE}, not from beside {DOCS}")
    if "--check" in sys.argv:
        sys.exit(None if PAGE.read_text() == page() else "docs/reproductions.py: reproductions.md is stale")
    for folder in sys.argv[1:]:
        keep(Path(folder))
    PAGE.write_text(page())
    print(PAGE)


if __name__ == "__main__":
    main()

"""Examination of a contender's first run: audit and score, in a job of its own."""

from dataclasses import dataclass
from pathlib import Path

from foveal.comparison.jobs import Failed
from foveal.core.files import write_file
from foveal.core.functions import Functions
from foveal.evaluation.audit import AuditResult, audit, write_audit
from foveal.evaluation.score import ScoreResult, score
from foveal.inspection.finding.find import find_places
from foveal.training.config import CompareConfig
from foveal.training.load_model import load_on_device

EXAMINED = 500  # random images for audit and score; on all images they would take as long as the training


@dataclass(frozen=True)
class Examination:
    """Audit and score of a trained run; both are None if the network has no attention or the examination failed."""

    audit: AuditResult | None = None
    score: ScoreResult | None = None
    failed: str = ""


def examine(folder: Path, config: CompareConfig, functions: Functions) -> Examination:
    """Audit and score a trained run on random images, and write the results; a score needs one class for each image."""
    opened = load_on_device(str(folder), functions.get(config.backbone))
    found = find_places(opened.network)
    if not found.places and not found.reasons:
        return Examination()
    parts = opened.load_data(functions.get(config.data, config.data))
    validation, test = (opened.batches(part, most=EXAMINED) for part in (parts.validation, parts.test))
    audited = audit(opened.network, validation)
    write_audit(audited, folder / "audit.json")
    if parts.multi_label:
        return Examination(audited)
    scored = score(opened.network, test, validation)
    write_file(folder / "score.json", scored.to_json())
    return Examination(audited, scored)


def examination_of(found: Examination | Failed | None) -> Examination | None:
    """Convert the result of an examination's job to an `Examination`."""
    return Examination(failed=found.reason) if isinstance(found, Failed) else found

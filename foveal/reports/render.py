"""Rendering of HTML templates. A page is one file; its content security policy forbids loading any other file."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from foveal.core.files import WRITTEN_BY


def fill(name: str, **facts: Any) -> str:
    """Fill a template with escaped values; a `Picture` becomes an img element with embedded data."""
    pages = Environment(
        loader=PackageLoader("foveal.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return pages.get_template(name).render(**facts, written_by=WRITTEN_BY)

"""Documents made of the Jinja templates in this folder."""

from functools import partial
from pathlib import Path
from typing import Any

import jinja2

from genrec import files

FILTERS = {
    "decimal": "{:.4f}".format,
    "percent": "{:.1%}".format,
    "integer": "{:,}".format,
    "json": partial(files.to_json, indent=1),
}


def render(template: str, **context: Any) -> str:
    """Returns the text of a template; values are escaped in HTML. A name that `context` lacks is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=template.endswith(".html.jinja"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= FILTERS
    return environment.get_template(template).render(context)

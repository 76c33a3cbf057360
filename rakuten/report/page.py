"""Write the report's page: one HTML file that contains all it needs, and that may not ask for anything else.

The page's Content-Security-Policy allows two scripts, by their SHA-256, and no request. Vega evaluates the expressions of figures
with an interpreter (`ast`), because the policy does not allow JavaScript to be made from text.
"""

import base64
import hashlib
import json
from importlib import resources
from importlib.metadata import version
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rakuten.report.parts import Section
from rakuten.report.sections import sections_of
from rakuten.report.summary import tiles_of
from rakuten.report.tables import Facts

# A script element ends at `</script`, and `<!--` changes how it is read, whatever the text is. Old JavaScript ends a line at
# U+2028 and U+2029. JSON may write all these characters as escapes.
_UNSAFE_IN_SCRIPT: Final = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def page_of(facts: Facts, vega: str) -> str:
    """Return the page as text.

    Args:
        facts: what the page shows.
        vega: the JavaScript of Vega, Vega-Lite and vegaEmbed, as one script.
    """
    sections = sections_of(facts) if facts.batch_names else []
    own = _text("page.js")
    environment = Environment(
        loader=PackageLoader("rakuten.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html").render(
        facts=facts,
        sections=sections,
        tiles=tiles_of(facts) if facts.batch_names else [],
        version=version("rakuten-pipeline"),
        style=Markup(_text("page.css")),  # noqa: S704  our own file
        figures=Markup(json_for_script(_figures(sections))),  # noqa: S704  escaped for a script element
        vega=Markup(vega),  # noqa: S704  the library's own code
        script=Markup(own),  # noqa: S704  our own file
        script_hashes=[_hash(vega), _hash(own)],
    )


def json_for_script(value: Any) -> str:
    """Return a value as JSON that is safe inside a script element, whatever its texts contain."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).translate(_UNSAFE_IN_SCRIPT)


def _figures(sections: list[Section]) -> dict[str, Any]:
    return {figure.name: figure.spec for section in sections for figure in section.figures}


def _text(name: str) -> str:
    return resources.files("rakuten.report").joinpath(name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()

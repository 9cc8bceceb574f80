"""The functions that MkDocs calls: they add pages from outside of `docs/`, correct links, and draw diagrams.

The other modules of this package do this work, and do not depend on MkDocs.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# The command of MkDocs does not search the working folder for modules.
sys.path.insert(0, str(Path(__file__).parents[1]))

from docs_site.diagrams import drawn
from docs_site.links import linked_sources, site_links, source_page
from docs_site.pages import ADOPTED, DOCS, ROOT

_ORIGINS = {uri: ROOT / name for name, uri in ADOPTED.items()}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Let the Markdown extension draw blocks of Mermaid."""
    fences: dict[str, Any] = config.mdx_configs.setdefault("pymdownx.superfences", {})
    fences["custom_fences"] = [{"name": "mermaid", "class": "diagram", "format": drawn}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside of `docs/`, and the files that pages link to."""
    for uri, file in _ORIGINS.items():
        files.append(File.generated(config, uri, content=file.read_text(encoding="utf-8")))
    pages = [*DOCS.rglob("*.md"), *_ORIGINS.values()]
    sources = {source for page in pages for source in linked_sources(page.read_text(encoding="utf-8"), file=page)}
    for source in sorted(sources):
        uri, text = source_page(source)
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Correct the links of a page, and let command lines be colored as shell code."""
    uri = page.file.src_uri
    # The colors of `console` expect a prompt before each command; without a prompt, commands look like output.
    colored = re.sub(r"^( *```)console\n((?:(?!\1|\s*\$ ).*\n)*?\1)$", r"\1bash\n\2", markdown, flags=re.MULTILINE)
    return site_links(colored, file=_ORIGINS.get(uri, DOCS / uri), uri=uri)

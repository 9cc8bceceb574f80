"""What MkDocs calls: adds pages from outside of `docs/`, corrects links to them, and draws diagrams.

It does not write what the pages say: the other modules of this package do, and know nothing of MkDocs.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# The command of MkDocs does not look for modules where it is started.
sys.path.insert(0, str(Path(__file__).parents[1]))

from docs_site.diagrams import drawn
from docs_site.links import linked_sources, site_links, source_page
from docs_site.pages import ADOPTED, DOCS, ROOT

_ORIGINS = {uri: ROOT / name for name, uri in ADOPTED.items()}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Have blocks of Mermaid drawn."""
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
    """Lead links to where the site has what they mean, and have command lines coloured as such."""
    uri = page.file.src_uri
    # The colours of `console` are for lines behind a prompt; without one they take commands for output.
    coloured = re.sub(r"^( *```)console\n((?:(?!\1|\s*\$ ).*\n)*?\1)$", r"\1bash\n\2", markdown, flags=re.MULTILINE)
    return site_links(coloured, file=_ORIGINS.get(uri, DOCS / uri), uri=uri)

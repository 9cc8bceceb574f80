"""Corrects links that lead out of `docs/`: to pages with another place in the site, and to files of the project."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from docs_site.pages import ADOPTED, DOCS, REPLACED, ROOT

#: A link to a file; links to URLs and to places within a page do not match.
_LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")
_FENCE = re.compile(r"^( *)(`{3,}).*?^\1\2`*$", re.MULTILINE | re.DOTALL)
#: The folder of the site for pages that show files of the project.
SOURCE = "source"


def site_links(markdown: str, *, file: Path, uri: str) -> str:
    """Return the text of a page with links that work in the site.

    Args:
        markdown: the text of the page.
        file: the file of the text, to which its links are relative.
        uri: the place of the page in the site.
    """

    def leading(match: re.Match[str]) -> str:
        target = _place(file, match[1])
        if target is None:
            return match[0]
        path = os.path.relpath(target, Path(uri).parent)
        return f"]({path}{match[2] or ''})"

    parts, end = [], 0
    for fence in _FENCE.finditer(markdown):
        parts += [_LINK.sub(leading, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, _LINK.sub(leading, markdown[end:])])


def linked_sources(markdown: str, *, file: Path) -> Iterator[Path]:
    """Return the files of the project that a page links to and that are not pages of the site."""
    for match in _LINK.finditer(_FENCE.sub("", markdown)):
        place = _place(file, match[1])
        if place is not None and place.startswith(f"{SOURCE}/"):
            yield ROOT / place.removeprefix(f"{SOURCE}/").removesuffix(".md")


def source_page(file: Path) -> tuple[str, str]:
    """Return the place in the site of the page that shows a file of the project, and the text of that page."""
    name = file.relative_to(ROOT).as_posix()
    content = file.read_text(encoding="utf-8")
    language = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".md": "markdown"}.get(file.suffix, "text")
    text = f"---\nsearch: {{exclude: true}}\n---\n\n# {name}\n\n````{language}\n{content.rstrip()}\n````\n"
    return f"{SOURCE}/{name}.md", text


def _place(file: Path, link: str) -> str | None:
    """Return the place in the site to which a link must lead; None if it leads to no file of the project."""
    target = Path(os.path.normpath(file.parent / link))
    if target.is_dir():
        target = next((found for name in ("README.md", "__init__.py") if (found := target / name).is_file()), target)
    if not target.is_file() or not target.is_relative_to(ROOT):
        return None
    name = target.relative_to(ROOT).as_posix()
    if target.is_relative_to(DOCS):
        return target.relative_to(DOCS).as_posix()
    return ADOPTED.get(name) or REPLACED.get(name) or f"{SOURCE}/{name}.md"

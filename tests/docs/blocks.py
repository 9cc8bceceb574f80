"""Reads the fenced blocks and the inline code of a page."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

_FENCE = re.compile(r"^( *)(`{3,})([^`\n]*)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r'title="([^"]+)"')
_PARSED_ONLY = re.compile(r"<!-- parsed only: (\S.*?) -->\s*\Z", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: the page's name.
        line: the number of its first line in the page.
        language: the first word after the fence.
        title: the name of the file that the block shows, if any.
        parsed_only: the reason why the block is not run, if a comment before it gives one.
        text: the lines of the block.
    """

    page: str
    line: int
    language: str
    title: str | None
    parsed_only: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.page}, line {self.line}"


def blocks_of(page: str, markdown: str) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    found = []
    for match in _FENCE.finditer(markdown):
        marker = _PARSED_ONLY.search(markdown[: match.start()])
        title = _TITLE.search(match[3])
        found.append(
            Block(
                page=page,
                line=markdown.count("\n", 0, match.start()) + 1,
                language=match[3].split(" ")[0].strip(),
                title=None if title is None else title[1],
                parsed_only=None if marker is None else marker[1],
                text=textwrap.dedent(match[4]),
            )
        )
    return found


def inline_code(markdown: str) -> list[str]:
    """Return the texts between backticks outside of blocks, each on one line."""
    return [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", _FENCE.sub("", markdown))]

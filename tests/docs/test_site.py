"""The site's navigation has every page. `mkdocs build --strict` checks the links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from docs_site.links import site_links
from docs_site.pages import ADOPTED, DOCS, ROOT


def pages(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
        return
    for part in entry.values() if isinstance(entry, dict) else entry:
        yield from pages(part)


def test_the_navigation_has_every_page_once() -> None:
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    written = [file.relative_to(DOCS).as_posix() for file in DOCS.rglob("*.md")]

    assert sorted(pages(navigation)) == sorted([*written, *ADOPTED.values()])


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("[page](../proofs.md#top)", "[page](../proofs.md#top)"),
        ("[readme](../../README.md)", "[readme](../index.md)"),
        ("[changes](../../CHANGELOG.md)", "[changes](../changelog.md)"),
        ("[file](../../flows/handlers/step.py)", "[file](../source/flows/handlers/step.py.md)"),
        ("[folder](../../storage/library/)", "[folder](../source/storage/library/__init__.py.md)"),
        ("[address](https://example.org)", "[address](https://example.org)"),
        ("[here](#top)", "[here](#top)"),
        ("[gone](nowhere.md)", "[gone](nowhere.md)"),
        ("```text\n[code](../../README.md)\n```\n", "```text\n[code](../../README.md)\n```\n"),
    ],
)
def test_links_lead_to_where_the_site_has_what_they_mean(written: str, read: str) -> None:
    assert site_links(written, file=DOCS / "how-to" / "a.md", uri="how-to/a.md") == read


def test_links_of_a_file_beside_the_pages_are_read_from_where_it_stands() -> None:
    assert site_links("[page](docs/proofs.md)", file=ROOT / "CHANGELOG.md", uri="changelog.md") == "[page](proofs.md)"


@pytest.mark.parametrize("page", sorted(str(file.relative_to(ROOT)) for file in DOCS.rglob("*.md")))
def test_what_belongs_to_an_entry_of_a_list_is_indented_by_four_spaces(page: str) -> None:
    """GitHub accepts two or three spaces too, but MkDocs then ends the list, and numbers the next entry 1."""
    text = "\n" + (ROOT / page).read_text(encoding="utf-8")
    without_code = re.sub(r"^( *)(`{3,}).*?^\1\2`*$", r"\1CODE", text, flags=re.MULTILINE | re.DOTALL)

    assert re.findall(r"\n {1,3}(?:[*-]|\d+\.) .*|\n\n {1,3}\S.*", without_code) == []


def test_every_guard_of_the_security_page_has_a_test_that_exists() -> None:
    """A row whose last cell is "the same file" has its test in the file of the row before it."""
    section = (DOCS / "explanation" / "security.md").read_text(encoding="utf-8").split("## Guards")[1].split("## ")[0]
    tests = [row.rpartition(" | ")[2] for row in section.splitlines() if row.startswith("| ")][2:]
    assert tests
    for cell in tests:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", cell)
        assert named or "the same file" in cell, cell
        for file, function in named:
            assert f"def {function}" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{function}"


def test_every_file_and_name_of_the_architecture_page_exists() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    links = re.findall(r"\[`([\w/.]+)`\]\(\.\./([\w/.]+)\)", text)
    assert len(links) > 100
    for shown, linked in links:
        assert shown.rstrip("/") == linked.rstrip("/")
        assert (ROOT / linked).exists(), linked
    decisions = text.split("## Where each thing is decided")[1].split("\n## ")[0]
    named = re.findall(r"\(\.\./([\w/.]+)\): `(\w+)` \|", decisions)
    assert named
    for file, name in named:
        source = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"^\s*(?:def |class )?{name}\b", source, re.MULTILINE), name
    for row in decisions.splitlines():
        if row.startswith("| ") and row not in ("| question | decided in |", "| --- | --- |"):
            assert re.fullmatch(r"\| [^|]+ \| \[`[\w/]+\.(py|yaml)`\]\(\.\./[\w/]+\.\1\)(: `\w+`)? \|", row), row

"""Writes the reference pages of `docs/` from the code: `python -m docs_site`."""

from __future__ import annotations

from docs_site.pages import DOCS, GENERATED, written_page

for uri in GENERATED:
    (DOCS / uri).parent.mkdir(parents=True, exist_ok=True)
    (DOCS / uri).write_text(written_page(uri), encoding="utf-8")

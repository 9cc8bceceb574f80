"""Builds the documentation site from `docs/`: writes reference pages, draws diagrams, and corrects links.

`python -m docs_site` writes the reference pages. `mkdocs build --strict` calls the rest through
`docs_site/mkdocs_hook.py`. This package is not installed with photojobs.
"""

"""The site of `docs/`: reference pages written from the code, diagrams drawn beforehand, and links to files.

`python -m docs_site` writes the reference pages. `mkdocs build --strict` runs the rest through
`docs_site/mkdocs_hook.py`. Nothing of it is installed with photojobs.
"""

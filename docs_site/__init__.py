"""What makes a site of `docs/`: reference pages read from the code, diagrams drawn beforehand, and links to files.

`mkdocs build --strict` runs it through `docs_site/mkdocs_hook.py`. Nothing of it is installed with photojobs.
"""

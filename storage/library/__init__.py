"""The library on disk: builds paths, and scans, moves and removes files in `<root>/<tenant_id>/<project_folder>/`.

`paths.py` builds all paths, `transfer.py` moves files, `scan.py` lists them, and `trash.py` and `removal.py` remove
them. `naming` decides what the name of a file means. This package uses no SQL and decodes no images.
"""

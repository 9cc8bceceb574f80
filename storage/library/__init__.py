"""The library on disk: builds paths, and scans, moves and removes files in `<root>/<tenant_id>/<project_folder>/`.

`paths.py` builds paths, `transfer.py` moves files, `scan.py` lists them, and `trash.py` and `removal.py` remove them.
`naming` decides by names which photos a file fits. This package does not access the tables of the database, and decodes
no images.
"""

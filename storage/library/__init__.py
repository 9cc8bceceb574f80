"""The library on disk: builds paths, and scans, moves and removes files in `<root>/<tenant_id>/<project_folder>/`.

This room uses no SQL and decodes no images. Callers pass names and times, and get checked paths and frozen records.
"""

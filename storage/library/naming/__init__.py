"""What the names of files and folders mean.

`companions.py` decides which photos a companion fits (sidecars, edits, movies), `kinds.py` which extensions are photos,
`ignored_names.py` which names are skipped, `names.py` which names are safe, and `folder_names.py` which are free.
"""

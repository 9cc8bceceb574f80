"""Reads and writes the rows of projects, photos, tags, originals and derivatives, and selects photos.

`photo_selection.py` decides which photos meet given criteria, `originals.py` keeps the size, times and hash of each
file, and `original_search.py` finds the photo that has the same contents as a new file.
"""

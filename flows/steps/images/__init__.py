"""The steps that read originals: to make thumbnails and previews, to read metadata, and to verify contents.

`observation` decides whether an original has changed since its row was written, and `derivative_steps` which
derivatives are made again.
"""

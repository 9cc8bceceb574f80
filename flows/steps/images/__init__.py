"""The steps that read originals: to make thumbnails and previews, to read metadata, and to verify contents.

`observation` decides whether an original must be read again (`flows.imaging.fingerprint` says whether a file has
changed), and `derivative_steps` which derivatives are made again.
"""

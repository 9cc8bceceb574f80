"""The steps that read originals: to make thumbnails and previews, to read metadata, and to verify contents.

`observation` decides whether an original must be read again, and `derivative_steps` which derivatives are made again.
`flows.imaging.fingerprint` decides whether the contents of a file have changed.
"""

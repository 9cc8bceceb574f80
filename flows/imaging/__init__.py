"""Images: thumbnails, previews, metadata and fingerprints of originals, decoded in separate processes.

Its modules are cheap to import, because libvips is loaded at the first image. They use neither SQL nor Prefect.
"""

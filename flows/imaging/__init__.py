"""Images: thumbnails, previews, metadata and fingerprints of originals, decoded in separate processes.

The modules are imported quickly, because libvips is loaded at the first image. They use neither SQL nor Prefect.
"""

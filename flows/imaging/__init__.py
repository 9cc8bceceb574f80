"""Images: thumbnails, previews, metadata and fingerprints of originals, decoded in processes of their own.

Importing a module of it costs little; libvips is loaded at the first image. No SQL and no Prefect here.
"""

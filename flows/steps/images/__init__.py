"""The steps that read originals: thumbnails and previews, metadata, verification."""

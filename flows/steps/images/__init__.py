"""The steps that read originals: to make thumbnails and previews, to read metadata, and to verify contents."""

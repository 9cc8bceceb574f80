"""Images: thumbnails, previews, metadata and fingerprints of originals, decoded in separate processes.

`thumbnail_and_preview` makes derivatives, `metadata` chooses the date and camera, and `limits` declares the limits of
images; the values of most limits, sizes and qualities are settings (`storage.settings`). The modules are imported
quickly, because libvips is loaded at the first image. They use neither SQL nor Prefect.
"""

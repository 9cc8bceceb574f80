"""Images: thumbnails, previews, metadata and fingerprints of originals, decoded in separate processes.

`thumbnail_and_preview` makes derivatives, `metadata` chooses the date and camera, and `limits` declares the limits of
images; the values of most limits, sizes and qualities are settings (`storage.settings`). The import of these modules
takes little time, because libvips is loaded at the first image. The modules use neither SQL nor Prefect.
"""

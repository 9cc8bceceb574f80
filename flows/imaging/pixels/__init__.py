"""Decodes originals to pixels, and encodes pixels as WebP. Only this package, and the demo, import image libraries.

`open_image` reads the header of a file, and `decode` decodes the file to upright sRGB pixels. For a RAW file, `raw`
reads the embedded preview, and `decode` decodes the preview.
"""

"""Decodes originals to pixels, and encodes pixels as WebP. Only this package calls image libraries.

`decode` makes upright sRGB pixels of a file. Of a RAW file, `raw` reads the embedded preview, which `decode` decodes.
"""

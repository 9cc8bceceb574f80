"""Decodes originals to pixels, and encodes pixels as WebP. Only this package calls image libraries.

`open_image` reads the header of a file, and `decode` makes upright sRGB pixels of it. Of a RAW file, `raw` reads the
embedded preview, which `decode` decodes.
"""

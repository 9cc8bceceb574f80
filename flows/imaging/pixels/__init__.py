"""Decoding originals to pixels, and encoding pixels as WebP. Only this package calls image libraries."""

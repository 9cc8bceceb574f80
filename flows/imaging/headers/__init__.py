"""Readers of image headers: dates, camera, orientation and size, without a decoder and with limits for broken files."""

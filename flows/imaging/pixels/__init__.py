"""The pixels of an image, decoded from an original and encoded as WebP. Only this room calls libraries for images."""

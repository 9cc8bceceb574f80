"""Image operations in separate processes, so that a crash of a decoder affects only one image, or in this process."""

"""Image operations in processes of their own, where a crash of a decoder affects only one image, or in this one."""

"""Runs image operations in separate processes, so that a crash of a decoder affects only one image.

`image_processing` decides how many processes there are, `worker` controls one of them, and `worker_process` is its
program. A setting makes `image_processing` run the operations in this process instead.
"""

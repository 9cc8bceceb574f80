"""Plans: what a task would do. The task runs on a shadow, which has copies of rows and file names, but no images.

`plan` runs the task there and lists the changes, `shadow` decides what is copied, and `refusals` compares a saved plan
with a fresh one.
"""

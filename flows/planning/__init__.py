"""Plans: what a task would do. The task runs on a shadow, which has copies of rows and file names, but no images.

`plan` runs the task there, `changes` lists what it changed, and `refusals` compares a saved plan with a fresh one.
`shadow` makes the shadow; `storage.shadow.copied_rows` decides which rows are copied, and `shadow_library` which files.
"""

"""Plans: what a task would do. The task runs on a shadow, which has copies of rows and file names, but no images."""

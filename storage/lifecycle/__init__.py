"""The life cycle of jobs, items and tasks: writes their rows, keeps them alive, ends them and starts what follows."""

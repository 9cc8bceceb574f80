"""Numbers for Prometheus, read from the tables when they are asked for."""

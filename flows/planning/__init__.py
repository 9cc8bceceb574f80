"""Plans: what a task would do, found out by running it on a shadow of the library, and running what was planned."""

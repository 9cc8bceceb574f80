"""What the names of files and folders mean: kinds, companions, ignored names, names that are safe and unique."""

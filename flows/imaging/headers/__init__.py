"""What the headers of image files say, read within bounds and without a decoder: dates, camera, orientation, size."""

"""Which job runs next: claims, lanes, holds, rescue; and the repositories that start and steer tasks and jobs."""

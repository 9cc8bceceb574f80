"""Chooses the next job: claims, lanes, holds, rescue. Also has the repositories of tasks and jobs."""

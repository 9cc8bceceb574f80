"""Decides which job runs next: claims, lanes, holds, rescue. Also has the repositories of tasks and jobs."""

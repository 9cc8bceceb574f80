from flows import StepContext, step


@step("count_photos", unit="projects", modifies_files=False)
def count_photos(ctx: StepContext) -> None:
    """Counts the original files of each project."""
    for project in ctx.projects():
        with ctx.project(project) as folder:
            ctx.report.count("files", sum(1 for path in folder.path.iterdir() if path.is_file()))

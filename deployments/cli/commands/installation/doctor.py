"""`photojobs doctor`: check the installation, and show how to fix problems.

`deployments.doctor.examination` decides which checks run.
"""

from __future__ import annotations

from cyclopts import App

from deployments.cli.options.exit_codes import TASK_FAILED
from deployments.cli.options.opening import use_password
from deployments.cli.options.parameters import Json
from deployments.cli.options.signals import removing_temporary_files
from deployments.cli.output.loudness import is_quiet
from deployments.cli.output.terminal import print_json, print_table, say
from deployments.doctor.finding import Finding, Standing
from storage.settings import Settings
from task_definitions.wording import quantity

app = App(name="doctor")


@app.default
def doctor(*, json: Json = False) -> int:
    """Check whether everything works, and show how to fix what does not.

    The command checks the database, the library, the packages, Prefect's server, image formats, plug-ins and
    definitions, free space and clocks. Some checks create hidden files in the library, and remove them at the end; they
    write nothing else. With --quiet, only problems and warnings are shown.
    """
    from deployments.doctor.examination import examine

    settings = Settings.load()
    use_password(settings)
    with removing_temporary_files():
        findings = list(examine(settings))
    is_well = all(finding.standing is not Standing.PROBLEM for finding in findings)
    if json:
        print_json({"is_well": is_well, "findings": findings})
    else:
        _print(findings)
    return 0 if is_well else TASK_FAILED


def _print(findings: list[Finding]) -> None:
    odd = [finding for finding in findings if finding.standing is not Standing.FINE]
    shown = odd if is_quiet() else findings
    if shown:
        print_table(
            ("area", "what", "standing", "found"), [(one.area, one.name, one.standing, one.says) for one in shown]
        )
    for finding in odd:
        say(f"\n{finding.standing}: {finding.area}: {finding.says}\n  what to do: {finding.remedy}")
    if not is_quiet():
        problems = sum(one.standing is Standing.PROBLEM for one in odd)
        warnings = len(odd) - problems
        say(f"\n{quantity(problems, 'problem')}, {quantity(warnings, 'warning')}")

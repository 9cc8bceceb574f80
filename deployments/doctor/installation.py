"""Checks that installed packages have supported versions, that Prefect's server answers, and that plug-ins load."""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import urllib.error
import urllib.request
from collections.abc import Iterator

from packaging.requirements import Requirement
from packaging.version import Version

from deployments.doctor.finding import Area, Finding
from deployments.server.server_api import authorization, opened_url
from storage.settings import Settings
from task_definitions.foreign_documents import MAX_BYTES, UnreadableDocument, parse_json

_packages, _prefect, _steps = Area("packages"), Area("prefect"), Area("steps")

#: How long Prefect's server may take to answer.
SERVER_SECONDS = 5.0


def examine_packages() -> Iterator[Finding]:
    """Check that the installed packages have supported versions."""
    wrong = []
    needed = []
    for line in importlib.metadata.requires("photojobs") or ():
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
        else:
            if requirement.specifier.contains(version, prereleases=True):
                continue
            wrong.append(f"{requirement.name} {version} is installed, but photojobs needs {requirement.specifier}")
        requirement.marker = None
        needed.append(shlex.quote(str(requirement)))
    if wrong:
        yield _packages.problem(
            "versions",
            f"{'; '.join(wrong)}.",
            f"`pip install {' '.join(needed)}` installs what photojobs needs.",
        )
    else:
        prefect = f"Prefect {importlib.metadata.version('prefect')}, FastAPI {importlib.metadata.version('fastapi')}"
        yield _packages.fine("versions", f"{prefect} and all other packages have supported versions.")


def examine_prefect() -> Iterator[Finding]:
    """Check that the server in PREFECT_API_URL answers, and that its version fits ours."""
    url = os.environ.get("PREFECT_API_URL", "").rstrip("/")
    if not url:
        yield _prefect.fine("server", "PREFECT_API_URL is not set; up, run and undo start their own server if needed.")
        return
    try:
        request = urllib.request.Request(f"{url}/admin/version", headers=authorization())  # noqa: S310 - the user's.
        with opened_url(request, timeout_seconds=SERVER_SECONDS) as answer:
            version = Version(str(parse_json(answer.read(MAX_BYTES + 1), source=url)))
    except urllib.error.HTTPError as error:
        yield _prefect.warning(
            "server",
            f"The server at {url} answers a request for its version with HTTP status {error.code}.",
            "Check PREFECT_API_URL, which must end with /api, and PREFECT_API_AUTH_STRING or PREFECT_API_KEY.",
        )
        return
    except (OSError, ValueError, UnreadableDocument) as error:
        yield _prefect.problem(
            "server",
            f"No Prefect server answers at {url} ({error}).",
            "Start this server, or correct PREFECT_API_URL. Without this variable, `photojobs up` starts a server.",
        )
        return
    ours = Version(importlib.metadata.version("prefect"))
    if version.release[:2] == ours.release[:2]:
        yield _prefect.fine("server", f"The server at {url} answers, with version {version}.")
    else:
        yield _prefect.warning(
            "server",
            f"The server at {url} has Prefect {version}, and this machine has Prefect {ours}.",
            f"`pip install prefect=={ours}` on the server's machine installs the version that this machine needs."
            if version < ours
            else "A server may be newer. If a flow run fails because of this, upgrade photojobs on this machine.",
        )


def examine_steps(settings: Settings) -> Iterator[Finding]:
    """Check that every plug-in loads, and that every definition is valid and can run here."""
    from flows.handlers.step import broken_plugins, handlers
    from task_definitions import load_definitions

    available = handlers()
    for broken in broken_plugins().values():
        yield _steps.problem(
            "plug_ins", str(broken), "Upgrade or uninstall this package, and run `photojobs doctor` again."
        )
    if not broken_plugins():
        yield _steps.fine("plug_ins", f"All {len(available)} step types can run here.")
    known = load_definitions(settings.definitions, strict=False)
    for error in known.errors:
        yield _steps.problem("definitions", str(error), "Correct this. `photojobs definitions lint` lists all errors.")
    missing = {name: [step.type for step in one.steps if step.type not in available] for name, one in known.items()}
    for name, types in missing.items():
        if types:
            yield _steps.problem(
                "definitions",
                f"{name}: this installation has no handler for {', '.join(types)}.",
                "Install the package that provides these step types.",
            )
    if not known.errors and not any(missing.values()):
        yield _steps.fine("definitions", f"All {len(known)} definitions are valid.")

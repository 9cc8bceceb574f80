"""The errors of servers, runners, deployments and metrics. Every class is a `PhotojobsError`."""

from __future__ import annotations

from task_definitions.errors import PhotojobsError


class DeploymentsError(PhotojobsError):
    """The base class of the errors of the package `deployments`."""


class PrefectServerFailed(DeploymentsError):
    """Prefect's server could not be started, or ended unexpectedly."""


class RunnerFailed(DeploymentsError):
    """Definitions cannot be served: the runner does not start, Prefect's server does not answer, or does not fit."""


class NoPrefectServer(DeploymentsError):
    """A command needs a running Prefect server, and no server is named."""


class AlreadyUp(DeploymentsError):
    """Another `photojobs up` uses the same folder."""


class PrefectHomeTooNew(PrefectServerFailed):
    """The folder of Prefect's server was made by a newer Prefect than the installed one, which cannot read it."""


class PortInUse(PrefectServerFailed):
    """Another program uses the port of Prefect's server."""


class AddressNotUsable(PrefectServerFailed):
    """Prefect's server cannot listen on the given address or port."""


class MetricsNotServed(DeploymentsError):
    """The address for metrics does not belong to this machine, or this process may not listen on it."""


class MissingExtra(DeploymentsError):
    """A function needs a library that is not installed; the message names the extra that installs it."""


class NoWorkPool(DeploymentsError):
    """The work pool of a deployment does not exist."""


class UnknownPoolType(DeploymentsError):
    """Prefect does not know the type of the work pool to create."""


class ImageMismatch(DeploymentsError):
    """A work pool needs a container image and none was named, or an image was named for a pool without containers."""


class NoSecretBlock(DeploymentsError):
    """The Prefect block for the database's URL does not exist."""


class TextIsTemplate(DeploymentsError):
    """A text of a definition or a setting has double braces, which `prefect deploy` would take for a template."""


class ScheduleOverlap(DeploymentsError):
    """A scheduled flow run is due while an earlier run of its schedule is unfinished."""


class ForeignDeployment(DeploymentsError):
    """A flow run has no deployment, or one that does not run a flow of photojobs."""

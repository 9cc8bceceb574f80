"""What can go wrong around servers and deployments. Every class is a `PhotojobsError`."""

from __future__ import annotations

from task_definitions.errors import PhotojobsError


class DeploymentsError(PhotojobsError):
    """The parent of everything that deployments raises."""


class PrefectServerFailed(DeploymentsError):
    """Prefect's server could not be started, or ended before it was asked to."""


class RunnerFailed(DeploymentsError):
    """The process that serves definitions to Prefect could not be started."""


class NoPrefectServer(DeploymentsError):
    """A command needs a Prefect server that somebody else runs, and none is named."""


class AlreadyUp(DeploymentsError):
    """Another `photojobs up` works with the same folder."""


class PrefectHomeTooNew(PrefectServerFailed):
    """The folder of Prefect's server was made by a newer Prefect than the installed one, which cannot read it."""


class PortInUse(PrefectServerFailed):
    """The port that Prefect's server is to listen on is taken by another program."""


class MetricsNotServed(DeploymentsError):
    """The address at which Prometheus is to find numbers is none of this machine, or may not be used."""


class MissingExtra(DeploymentsError):
    """Something needs a library that is not installed; the message says with which extra it comes."""


class NoWorkPool(DeploymentsError):
    """Definitions are to be deployed to a work pool that does not exist."""


class UnknownPoolType(DeploymentsError):
    """A work pool is to be made of a type that Prefect does not know."""


class ImageMismatch(DeploymentsError):
    """A work pool runs images and none was named, or an image was named for one that runs none."""


class NoSecretBlock(DeploymentsError):
    """The Prefect block that is to hold the database's URL does not exist."""


class ScheduleOverlap(DeploymentsError):
    """A scheduled flow run was to start while an earlier run of its schedule is unfinished."""


class ForeignDeployment(DeploymentsError):
    """A flow run was to start from a deployment that runs something else than a flow of photojobs."""

"""The `@step` decorator and the registry of handlers, which maps each step type to its function.

`_BUILTIN_MODULES` below names the modules with the handlers of the built-in step types; `task_definitions.step_types`
has their descriptions. To loop over photos, a handler calls `each_photo` of `flows.steps.targets.target_photos`; to
loop over projects, `each_project` of `flows.steps.targets.target_projects`.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from flows.errors import MissingHandler, PluginError, classed_reason_of

if TYPE_CHECKING:
    from flows.handlers.step_context import StepContext

#: The type of handlers, functions that run one job. The return value is ignored.
Handler = Callable[["StepContext"], None]

#: The modules whose import registers the built-in handlers.
_BUILTIN_MODULES = (
    "flows.steps.moving.trash_maintenance",
    "flows.steps.projects.orphaned_projects",
    "flows.steps.moving.duplicate_resolution",
    "flows.steps.projects.folder_alignment",
    "flows.steps.projects.manifest_check",
    "flows.steps.following.folder_check",
    "flows.steps.following.manifest_cleaning",
    "flows.steps.images.derivative_validation",
    "flows.steps.images.derivative_steps",
    "flows.steps.images.metadata_steps",
    "flows.steps.moving.file_removal",
    "flows.steps.moving.image_move",
    "flows.steps.projects.folder_discovery",
    "flows.steps.images.verify_originals",
    "flows.steps.projects.project_deletion",
    "flows.undoing.undo_step",
)


@dataclass
class _Registry:
    handlers: dict[str, Handler] = field(default_factory=dict)
    broken: dict[str, PluginError] = field(default_factory=dict)
    is_loading: bool = False
    is_loaded: bool = False


_registry = _Registry()
_loading = threading.RLock()


def step(
    name: str,
    *,
    unit: Literal["items", "projects", "library"],
    summary: str = "",
    modifies_files: bool = True,
    takes_destination: bool = False,
    takes_archived: bool = False,
) -> Callable[[Handler], Handler]:
    """Register a function as the handler of a step type.

    Args:
        name: the step type, as it is written in definitions and in `jobs.type`.
        unit: what one job works on: `items` (a chunk of at most 2,000 photos), `projects`, or the `library` as a whole.
        summary: one line for listings; by default, the first line of the function's docstring.
        modifies_files: whether the handler changes originals, folders or manifests, or adds or removes rows of photos
            or projects. Two such handlers never work on the same project at the same time.
        takes_destination: whether the task's project is the destination of the photos. A task with scope `photo_set`
            must then name a project.
        takes_archived: whether the handler works on archived projects, which `ctx.projects(archived=True)` returns.
            Commands refuse a task that names an archived project if no step of the task works on archived projects.

    Raises:
        PluginError: the name already has another handler, or was declared before with another unit.
        InvalidStepType: the name or the unit is not allowed.

    Example:
        >>> @step("count_photos", unit="projects", modifies_files=False)
        ... def count_photos(ctx):
        ...     for project in ctx.projects():
        ...         ctx.report.count("projects")
    """

    def register(handler: Handler) -> Handler:
        # The import is here because image processes import this package and do not need pydantic.
        from task_definitions.step_types import StepType, register_step_type, step_types

        known = _registry.handlers.get(name)
        if known is not None and _origin(known) != _origin(handler):
            raise PluginError(
                f'"{name}" is already the step type of {_origin(known)}; give the step type of {_origin(handler)} '
                "another name"
            )
        if name not in step_types():
            first_line = (handler.__doc__ or name).strip().partition("\n")[0]
            register_step_type(
                StepType(
                    name=name,
                    unit=unit,
                    summary=summary or first_line,
                    modifies_files=modifies_files,
                    takes_destination=takes_destination,
                    takes_archived=takes_archived,
                )
            )
        elif step_types()[name].unit != unit:
            raise PluginError(
                f'step type {name}: its description has the unit "{step_types()[name].unit}", and its handler the unit '
                f'"{unit}"; give both the same unit'
            )
        _registry.handlers[name] = handler
        return handler

    return register


def handler_of(type: str) -> Handler:
    """Return the handler of a step type.

    Raises:
        MissingHandler: the type has no handler. If an installed package declares the type, the message has the reason
            why the handler could not be loaded.
    """
    load_steps()
    if type in _registry.handlers:
        return _registry.handlers[type]
    if type in _registry.broken:
        raise MissingHandler(str(_registry.broken[type]))
    raise MissingHandler(
        f'"{type}" is not a step type that this installation can run. `photojobs steps list` shows the step types.'
    )


def why_not_run(type: str) -> str | None:
    """Return the reason why this installation cannot run jobs of a type, as a sentence; None if it can run them."""
    try:
        handler_of(type)
    except MissingHandler as error:
        return str(error)
    return None


def handlers() -> Mapping[str, Handler]:
    """Return all handlers by step type."""
    load_steps()
    return MappingProxyType(_registry.handlers)


def broken_plugins() -> Mapping[str, PluginError]:
    """Return the errors of the step types of installed packages that could not be loaded, by step type.

    If a step type has errors of two packages, the second error has the key `<type> of <package>`.
    """
    load_steps()
    return MappingProxyType(_registry.broken)


def load_steps() -> None:
    """Register the built-in handlers and the handlers of installed packages.

    Handlers that cannot be loaded are left out.
    """
    if _registry.is_loaded:
        return
    # Other threads wait here, because they would otherwise fail jobs whose type is not registered yet.
    with _loading:
        # A package that is being loaded may call this function again. The second call returns at once.
        if _registry.is_loaded or _registry.is_loading:
            return
        _registry.is_loading = True
        try:
            _load_all()
            _registry.is_loaded = True
        finally:
            _registry.is_loading = False


def _load_all() -> None:
    from importlib.metadata import entry_points

    from task_definitions.step_types import STEP_ENTRY_POINT_GROUP

    for module in _BUILTIN_MODULES:
        import_module(module)
    for entry_point in entry_points(group=STEP_ENTRY_POINT_GROUP):
        try:
            loaded = entry_point.load()
            if _registry.handlers.get(entry_point.name) is not loaded:
                raise PluginError(f'{entry_point.value} is not a function with @step("{entry_point.name}")')
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a package may raise any error when it is loaded.
            package = entry_point.dist.name if entry_point.dist else entry_point.value
            # If two packages declare the same type and both fail, both errors are kept.
            key = entry_point.name if entry_point.name not in _registry.broken else f"{entry_point.name} of {package}"
            _registry.broken[key] = PluginError(
                f'the step type "{entry_point.name}" of the package {package} could not be loaded: '
                f"{classed_reason_of(error)}. Upgrade or uninstall that package."
            )


def _origin(handler: Handler) -> str:
    return f"{handler.__module__}:{getattr(handler, '__qualname__', type(handler).__qualname__)}"

"""A mapping of names to loaded definitions, with the problems of the definitions that cannot be used."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from task_definitions.errors import DefinitionError, UnknownDefinition
from task_definitions.model import TaskDefinition
from task_definitions.wording import did_you_mean, quantity, shown


@dataclass(frozen=True, kw_only=True)
class LoadedDefinition:
    """A definition with its source: the file that declares it, `built-in` and a file name, or `<mapping>`."""

    definition: TaskDefinition
    source: str


class Definitions(Mapping[str, TaskDefinition]):
    """An immutable mapping of names to usable definitions.

    Attributes:
        errors: The problems of the unusable definitions; always empty after strict loading.
        sources: The source of each usable definition by the definition's name; see `LoadedDefinition`.
    """

    def __init__(self, loaded: Iterable[LoadedDefinition], *, errors: Iterable[DefinitionError] = ()) -> None:
        entries = tuple(loaded)
        self._definitions = {entry.definition.name: entry.definition for entry in entries}
        self.sources: Mapping[str, str] = MappingProxyType({entry.definition.name: entry.source for entry in entries})
        self.errors = tuple(errors)

    def __getitem__(self, name: str) -> TaskDefinition:
        return self._definitions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._definitions)

    def __len__(self) -> int:
        return len(self._definitions)

    def __repr__(self) -> str:
        return f"<Definitions: {len(self)} usable, {quantity(len(self.errors), 'problem')}>"

    def get_or_raise(self, name: str) -> TaskDefinition:
        """Return the definition called `name`.

        Raises:
            UnknownDefinition: the definition does not exist, or has a problem, which the message names.
        """
        definition = self._definitions.get(name)
        if definition is not None:
            return definition
        problems = [error for error in self.errors if error.definition == name]
        if problems:
            raise UnknownDefinition(f"{shown(name)} cannot be used until this problem is corrected: {problems[0]}")
        raise UnknownDefinition(
            f"{shown(name)} is not a definition.{did_you_mean(name, self)} "
            f"`photojobs definitions list` shows all {len(self)}."
        )

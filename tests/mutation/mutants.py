"""Makes the mutants of a module; in each, one operator, number, branch or word of SQL is changed."""

from __future__ import annotations

import ast
import difflib
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from cosmic_ray import plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

#: Patterns of SQL with their replacements. They are tried in all texts that contain a statement or a part of one.
_SQL = (
    (r"\bAND\b(?! lanes\.max| :max| lane\.max)", "OR"),
    (r"\bOR\b", "AND"),
    (r"\bIS NULL\b", "IS NOT NULL"),
    (r"\bIS NOT NULL\b", "IS NULL"),
    (r"\bNOT EXISTS\b", "EXISTS"),
    (r"(?<!NOT )\bEXISTS\b", "NOT EXISTS"),
    (r"\bDESC\b", "ASC"),
    (r"<=", "<"),
    (r"(?<![<>=-])>(?!=)", ">="),
    (r"(?<![<>=!])<(?![=>])", "<="),
    (r"(?<=')running(?=')", "queued"),
    (r"(?<=')queued(?=')", "running"),
    (r"(?<== )(?:coalesce\(:?[\w.]+, |NULL)", "updated_at"),
    (r"\bSKIP LOCKED\b", "NOWAIT"),
    (r"\bFOR UPDATE\b(?: SKIP LOCKED)?", ""),
    (r"\bleast\b", "greatest"),
    (r"\bgreatest\b", "least"),
    (r"\bLIMIT :?\w+(?:\.\w+)?", ""),
    (r"\bORDER BY\b[^)\n\"]*", ""),
)
_LOOKS_LIKE_SQL = re.compile(r"\b(SELECT|UPDATE|WHERE|EXISTS|IS NULL|ORDER BY|BETWEEN|priority DESC)\b")


@dataclass(frozen=True)
class Mutant:
    """A changed module."""

    module: str
    source: str
    diff: str
    #: The lines of the changed Python statement; empty if tests that do not run these lines may notice the change too.
    lines: frozenset[int]


@dataclass(frozen=True)
class Change:
    """A possible change of a module; `mutant` makes it."""

    module: str
    line: int
    make: Callable[[], str | None]
    is_of_sql: bool

    def mutant(self, source: str) -> Mutant | None:
        """Return the changed module; None if Python reports an error or a meaningless comparison in it."""
        changed = self.make()
        if changed is None or changed == source or not _is_valid(changed):
            return None
        lines = frozenset() if self.is_of_sql else _lines_of(ast.parse(source), self.line)
        return Mutant(self.module, changed, _diff(self.module, source, changed), lines)


def changes_of(module: str, source: str) -> list[Change]:
    """Return all possible changes of a module."""
    tree = ast.parse(source)
    return [*_changes_of_python(module, source, tree), *_changes_of_sql(module, source, tree)]


def _changes_of_python(module: str, source: str, tree: ast.Module) -> Iterator[Change]:
    idle = list(_idle_places(tree))
    nodes = list(ast_nodes(get_ast(source)))
    for name in plugins.operator_names():
        operator_type = plugins.get_operator(name)
        if operator_type.arguments():
            continue  # Such an operator changes a variable whose name must be given.
        operator = operator_type()
        places = (place for node in nodes for place, _ in operator.mutation_positions(node))
        for number, place in enumerate(places):
            if not any(first <= place < last for first, last in idle):
                yield Change(module, place[0], partial(mutate_code, source, operator, number), is_of_sql=False)


def _idle_places(tree: ast.Module) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield the places of code without effect at run time: annotations, and the mark of keyword-only parameters."""
    for node in ast.walk(tree):
        for each in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if each is not None:
                yield (each.lineno, each.col_offset), (each.end_lineno, each.end_col_offset)
        if isinstance(node, ast.FunctionDef) and node.args.kwonlyargs:
            first = node.args.kwonlyargs[0]
            yield (node.lineno, node.col_offset), (first.lineno, first.col_offset)


def _changes_of_sql(module: str, source: str, tree: ast.Module) -> Iterator[Change]:
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    descriptions = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
        if not is_text or id(node) in descriptions:
            continue
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        if not _LOOKS_LIKE_SQL.search(source[begin:end]):
            continue
        for pattern, replacement in _SQL:
            for hit in re.compile(pattern).finditer(source, begin, end):
                changed = source[: hit.start()] + replacement + source[hit.end() :]
                yield Change(module, node.lineno, partial(str, changed), is_of_sql=True)


def _is_valid(source: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("error", SyntaxWarning)
        try:
            compile(source, "mutant", "exec")
        except SyntaxError:
            return False
        return True


def _diff(module: str, source: str, changed: str) -> str:
    lines = difflib.unified_diff(source.splitlines(), changed.splitlines(), module, "changed", lineterm="", n=2)
    return "\n".join(lines)


def _lines_of(tree: ast.Module, line: int) -> frozenset[int]:
    """Return the lines of the innermost statement at this line; none if it runs once for many tests."""
    cached = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.decorator_list)
    if any(node.lineno <= line <= (node.end_lineno or line) for node in cached):
        return frozenset()
    spans: Iterable[range] = (
        range(node.lineno, _last_own_line(node) + 1) for node in ast.walk(tree) if isinstance(node, ast.stmt)
    )
    return frozenset(min((span for span in spans if line in span), key=len, default=range(line, line + 1)))


def _last_own_line(node: ast.stmt) -> int:
    if isinstance(node, ast.Match):
        return max(node.lineno, node.cases[0].pattern.lineno - 1)
    body: list[ast.stmt] = getattr(node, "body", [])
    return max(node.lineno, body[0].lineno - 1) if body else node.end_lineno or node.lineno

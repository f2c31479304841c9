"""Counts the lines of the project that the tests run.

    COUNT_LINES=1 pytest && coverage combine && coverage report

Python 3.11 can count lines only by tracing, which doubles the CPU time of the whole process, the
libraries included. So, if COUNT_LINES is set, this module imports the project's modules with a
probe before each statement: a probe adds the number of its line to a set.

Each process of pytest writes a data file of coverage.py when it ends. A line of `except` or `case`
counts if its block runs.
"""

import ast
import atexit
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from coverage import Coverage, CoverageData

_PROBE = "_count_line"
_lines: dict[str, set[int]] = {}  # by path


class _Probes(ast.NodeTransformer):
    """Puts a probe before each statement."""

    def visit(self, node: ast.AST) -> ast.AST:
        return node if isinstance(node, ast.expr) else super().visit(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list) and block:
                setattr(node, field, [*_with_probes(block)])
        match node:
            case ast.ExceptHandler(lineno=line) | ast.match_case(pattern=ast.pattern(lineno=line)):
                node.body.insert(0, _probe(line))
        return node


def _with_probes(block: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in block:
        match statement:
            case ast.Expr(ast.Constant(str())) | ast.ImportFrom(module="__future__"):
                pass  # these must stay first
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                for decorator in statement.decorator_list:
                    yield _probe(decorator.lineno)
                yield _probe(statement.lineno)
            case _:
                yield _probe(statement.lineno)
        yield statement


def _probe(line: int) -> ast.stmt:
    call = ast.Call(ast.Name(_PROBE, ast.Load()), [ast.Constant(line)], [])
    probe = ast.Expr(call, lineno=line, end_lineno=line, col_offset=0, end_col_offset=0)
    return ast.fix_missing_locations(probe)


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)  # bytecode in a cache would have no probes
        tree = ast.parse(self.get_data(path), path)
        _Probes().visit(tree)
        return compile(tree, path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        vars(module)[_PROBE] = _lines.setdefault(self.path, set()).add
        super().exec_module(module)


class _Finder:
    def __init__(self, packages: Sequence[str]) -> None:
        self._packages = packages

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] not in self._packages:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(name, spec.loader.path)
        return spec


def _write(basename: str, files: Sequence[Path]) -> None:
    data = CoverageData(basename, suffix=True)
    data.add_lines(_lines)
    data.touch_files([str(file) for file in files])  # a module that no test imports counts, too
    data.write()


def start() -> None:
    """Counts the lines of the modules that are imported from now on."""
    config = Coverage().config
    packages: list[str] = config.source or []
    assert not sys.modules.keys() & packages
    files = [file for package in packages for file in Path(package).resolve().rglob("*.py")]
    sys.meta_path.insert(0, _Finder(packages))
    atexit.register(_write, config.data_file, files)


if "COUNT_LINES" in os.environ:
    start()

"""Runs named checks in order, one line for each; shared by the two client checks."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator


class Skip(Exception):
    """Raised by a check that the server in question cannot be held to; the message says why."""


class Checks:
    """Collects checks with `@checks.check("name")` and runs them; a check fails by raising anything but `Skip`."""

    def __init__(self) -> None:
        self._checks: list[tuple[str, Callable]] = []

    def check(self, name: str) -> Callable:
        def add(function: Callable) -> Callable:
            self._checks.append((name, function))
            return function

        return add

    def run(self, context: object, only: str | None = None, verbose: bool = False) -> int:
        """Runs every check with `context`; answers with the exit code of the program."""
        failed = skipped = 0
        chosen = [(name, function) for name, function in self._checks if only is None or only in name]
        for name, function in chosen:
            try:
                function(context)
            except Skip as reason:
                skipped += 1
                print(f"skip {name}: {reason}", flush=True)
            except Exception as error:  # a check may fail in any way; the others still run
                failed += 1
                where = traceback.extract_tb(error.__traceback__)
                line = next((frame.lineno for frame in reversed(where) if frame.name == function.__name__), 0)
                print(f"FAIL {name}: {_first_line(error)} (line {line})", flush=True)
                if verbose:
                    traceback.print_exception(error)
            else:
                print(f"ok {name}", flush=True)
        left = f", {skipped} skipped" if skipped else ""
        print(f"{len(chosen) - failed - skipped} of {len(chosen)} checks passed{left}", flush=True)
        return 1 if failed or not chosen else 0


def equal(found: object, expected: object, what: str = "") -> None:
    """Fails unless both are equal, and says what was found."""
    if found != expected:
        raise AssertionError(f"{what + ': ' if what else ''}expected {expected!r}, found {found!r}")


@contextlib.contextmanager
def raises(kind: type[Exception], *texts: str, code: str | None = None) -> Iterator[None]:
    """Fails unless the block raises `kind` with each of `texts` in its message and, for MLflow, this error code."""
    try:
        yield
    except kind as error:
        for text in texts:
            if text.lower() not in str(error).lower():
                raise AssertionError(f"the message lacks {text!r}: {error}") from error
        if code is not None:
            equal(getattr(error, "error_code", None), code, "error code")
        return
    raise AssertionError(f"nothing was raised; expected {kind.__name__} {code or ''} {' '.join(texts)}".strip())


def _first_line(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}".strip()
    return text.splitlines()[0][:300]

"""One module a suite, each with a `SUITE`; found by name, imported only when it runs."""

import importlib
import pkgutil

from trust.suite import Suite


def names() -> list[str]:
    """The names of all suites, in the order of the alphabet."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def load(name: str) -> Suite:
    """The suite of this name. Raises ModuleNotFoundError, or TypeError for a module that exports none."""
    suite = importlib.import_module(f"trust.suites.{name}").SUITE
    if not isinstance(suite, Suite) or suite.name != name:
        raise TypeError(f"trust/suites/{name}.py must export SUITE = Suite(name={name!r}, …)")
    return suite

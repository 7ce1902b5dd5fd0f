"""Every chore of the project in plain words: `nox -s demo`, `nox -s tests`, `nox -l` for the rest.

Each session makes its own environment; only Python and a package index are needed.
"""

from __future__ import annotations

from pathlib import Path

import nox
from packaging.requirements import Requirement

HERE = Path(__file__).parent
PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
REDIS_PY = ["6", "7", "8"]
DJANGO = {"5.2": "3.10", "6.0": "3.12", "6.1": "3.13"}  # with the Python that each is tested on
CODE = ["sync_kit", "sync_kit_starlette", "sync_kit_django"]

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "types", "tests"]


def group(name: str) -> list[str]:
    """The requirements of one dependency group of pyproject.toml."""
    return list(nox.project.dependency_groups(PROJECT, name))


def install(session: nox.Session, extras: str, *groups: str) -> None:
    """Install the project, editable, with extras and dependency groups."""
    session.install("-q", "-e", f".[{extras}]", *(line for name in groups for line in group(name)))


def run_pytest(session: nox.Session, *args: str) -> None:
    """Run pytest with the arguments given after `--` on the command line."""
    session.run("python", "-m", "pytest", *args, *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """Start the example app, drive it over HTTP and print what happens (`-- --serve` keeps it running)."""
    session.install("-q", "-e", ".[starlette,embedded]", "uvicorn", "httpx")
    session.run("python", "example_apps/starlette_reports/demo.py", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests in two processes (`-- --server redis|valkey|auto`, and whatever else pytest takes)."""
    install(session, "all", "test")
    run_pytest(session, *([] if session.posargs else ["-n", "2"]))


for _version in PYTHONS:
    nox.session(name=f"tests-{_version}", python=_version)(tests)


@nox.session(name="tests-lowest", python=PYTHONS[0])
def tests_lowest(session: nox.Session) -> None:
    """Run the tests with the lowest versions that pyproject.toml allows."""
    constraints = Path(session.create_tmp()) / "lowest.txt"
    constraints.write_text("\n".join(lowest_versions()) + "\n")
    session.install("-q", "-e", ".[all]", "-c", str(constraints), *group("test"))
    run_pytest(session)


def lowest_versions() -> list[str]:
    """The project's own requirements with every `>=` turned into `==`."""
    project = PROJECT["project"]
    extras = (line for lines in project["optional-dependencies"].values() for line in lines)
    wanted = [Requirement(line) for line in (*project["dependencies"], *extras)]
    return [f"{r.name}=={bound.version}" for r in wanted for bound in r.specifier if bound.operator == ">="]


@nox.session(name="tests-highest", python=PYTHONS[-1])
def tests_highest(session: nox.Session) -> None:
    """Run the tests with the newest releases of everything."""
    session.install("-q", "--upgrade", "--upgrade-strategy", "eager", "-e", ".[all]", *group("test"))
    run_pytest(session)


def tests_redis(session: nox.Session) -> None:
    """Run the tests with the newest release of one major version of redis-py, which the session's name tells."""
    major = session.name.rpartition("-")[2]
    session.install("-q", "-e", ".[all]", f"redis=={major}.*", *group("test"))
    session.run("python", "-c", "import redis; print('redis-py', redis.__version__)")
    run_pytest(session)


for _major in REDIS_PY:
    nox.session(name=f"tests-redis-{_major}")(tests_redis)


def tests_django(session: nox.Session) -> None:
    """Run the tests of the Django adapter with one version of Django, which the session's name tells."""
    version = session.name.rpartition("-")[2]
    session.install("-q", "-e", ".[all]", f"django=={version}.*", *group("test"))
    session.run("python", "-c", "import django; print('Django', django.__version__)")
    paths = [] if session.posargs and not session.posargs[0].startswith("-") else ["tests/on_django"]
    run_pytest(session, *paths)


for _version, _python in DJANGO.items():
    nox.session(name=f"tests-django-{_version}", python=_python)(tests_django)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting, the direction of imports, and that every Lua file compiles."""
    install(session, "embedded", "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")
    session.run("python", "-m", "tests.support.lua")


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy (everything) and pyright (the packages), and that users' mistakes are flagged by both."""
    install(session, "all", "test", "types")
    session.run("mypy", *CODE, "tests", "example_apps", "noxfile.py")
    session.run("pyright")
    session.run("python", "-m", "pytest", "tests/typing")


@nox.session
def examples(session: nox.Session) -> None:
    """Start the example apps and ask them over HTTP."""
    install(session, "all", "test")
    run_pytest(session, "tests/examples")


@nox.session
def docs(session: nox.Session) -> None:
    """Run every example in every Markdown file."""
    install(session, "all", "test")
    run_pytest(session, "tests/docs")


@nox.session
def chaos(session: nox.Session) -> None:
    """Kill, stop and cut off workers and servers under load, for some minutes (`tests` does the same for a moment)."""
    install(session, "all", "test")
    run_pytest(session, "tests/chaos", "--long")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure sync_kit beside its peers (arguments after `--` go to bench/run_all.py)."""
    session.env.setdefault("BENCH_VENVS", str(Path(session.create_tmp()).absolute() / "venvs"))
    session.run("bash", "bench/setup_venvs.sh", external=True)
    session.run("python", "bench/run_all.py", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build sdist and wheel, install the wheel and look inside."""
    session.install("-q", "build")
    out = Path(session.create_tmp()) / "dist"
    session.run("python", "-m", "build", "--outdir", str(out))
    wheel = max(out.glob("*.whl"), key=lambda path: path.stat().st_mtime).absolute()
    session.install("-q", "--force-reinstall", "--no-deps", str(wheel))
    session.install("-q", f"{wheel}[starlette,cli]")
    with session.chdir(session.create_tmp()):
        session.run("python", str(HERE / ".ci/check_wheel.py"), str(wheel), str(HERE))

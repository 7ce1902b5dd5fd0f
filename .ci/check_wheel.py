"""Does the wheel hold all files of the packages, does it import, is its command there? check_wheel.py WHEEL PROJECT"""

import importlib
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

CARRIED = {".py", ".typed", ".lua", ".md", ".html", ".css", ".mo"}


def wanted(project: Path) -> set[str]:
    """The files that must be in the wheel, as paths relative to the project."""
    files = (path for package in project.glob("sync_kit*") for path in package.rglob("*"))
    return {str(path.relative_to(project)) for path in files if path.suffix in CARRIED}


def main() -> None:
    wheel, project = Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute()
    inside = set(zipfile.ZipFile(wheel).namelist())
    if missing := wanted(project) - inside:
        sys.exit(f"not in {wheel.name}: {', '.join(sorted(missing))}")
    packages = {name.split("/")[0] for name in wanted(project)}
    for package in sorted(packages - {"sync_kit_django"}):  # what they adapt to is not here
        module = importlib.import_module(package)
        if project in Path(module.__file__ or "").parents and ".nox" not in str(module.__file__):
            sys.exit(f"{package} was imported from the project, not from the wheel")
    if not entry_points(group="pytest11", name="sync_kit.pytest_plugin"):
        sys.exit(f"{wheel.name} does not tell pytest of sync_kit.pytest_plugin")
    helped = subprocess.run([Path(sys.executable).parent / "sync-kit", "--help"], capture_output=True, text=True)
    if helped.returncode or "doctor" not in helped.stdout:
        sys.exit(f"sync-kit --help does not work: {helped.stdout}{helped.stderr}")
    print(f"{wheel.name}: {len(wanted(project))} files, imports, has its command")


if __name__ == "__main__":
    main()

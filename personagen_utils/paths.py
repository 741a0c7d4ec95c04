"""Where the kit's files are, whatever folder a notebook or command was started in."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data"


def resolve(path: str | Path) -> Path:
    """Return `path` as an absolute path; a relative one counts from the root of the kit.

    Parameters
    ----------
    path : str or Path
        A path as it stands in a parameter, for example ``"data/runs/demo"``.

    Returns
    -------
    Path
    """
    path = Path(path).expanduser()
    return path if path.is_absolute() else ROOT / path


def shown(path: str | Path) -> str:
    """Return `path` as it is printed: relative to the root of the kit where it lies inside."""
    path = resolve(path)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)

"""What flowfs may be installed with: no version with a hole that is known, and all of it there."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

_ROOT = Path(__file__).resolve().parent.parent

# The first version without each hole. `scripts/audit` asks for what became known since.
_MENDED = {
    "CVE-2024-47081": ("requests", "2.32.4"),
    "CVE-2026-25645": ("requests", "2.33.0"),
    "CVE-2025-50181": ("urllib3", "2.5.0"),
    "CVE-2025-66418": ("urllib3", "2.6.0"),
    "CVE-2025-66471": ("urllib3", "2.6.0"),
    "CVE-2026-21441": ("urllib3", "2.6.3"),
    "CVE-2026-44431": ("urllib3", "2.7.0"),
    "CVE-2026-44432": ("urllib3", "2.7.0"),
    "GHSA-8988-9cw3-xx77": ("urllib3", "2.8.0"),
    "GHSA-vxq7-64xx-v4gw": ("urllib3", "2.8.0"),
    "GHSA-gh4c-6fx4-qh6g": ("urllib3", "2.8.0"),
    "CVE-2026-104851": ("fsspec", "2026.6.0"),
    "CVE-2026-7246": ("click", "8.3.3"),
}


@pytest.fixture(scope="module")
def bounds() -> ModuleType:
    spec = importlib.util.spec_from_file_location("oldest", _ROOT / "scripts" / "oldest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


def _oldest(bounds: ModuleType, *extras: str) -> dict[str, str]:
    project = (_ROOT / "pyproject.toml").read_text()
    return dict(pin.split("==") for pin in bounds.oldest(project, list(extras)))


@pytest.mark.parametrize("hole", sorted(_MENDED))
def test_no_version_with_a_known_hole_is_allowed(bounds: ModuleType, hole: str) -> None:
    package, mended = _MENDED[hole]
    assert _numbers(_oldest(bounds)[package]) >= _numbers(mended)


def test_the_oldest_versions_are_those_of_what_is_required_and_of_the_extras_named(
    bounds: ModuleType,
) -> None:
    required = {"fsspec", "requests", "urllib3", "click", "rich"}
    assert set(_oldest(bounds)) == required
    assert set(_oldest(bounds, "fuse", "fuse3")) == required | {"fusepy", "mfusepy"}


@pytest.mark.parametrize(
    ("project", "complaint"),
    [
        ('dependencies = [\n    "a>=1",\n]\n', "no list 'more'"),
        ('dependencies = [\n    "a>=1",\n]\nmore = ["b"]\n', "'b' of 'more' has no lower bound"),
    ],
)
def test_what_has_no_oldest_version_is_said(
    bounds: ModuleType, project: str, complaint: str
) -> None:
    with pytest.raises(SystemExit, match=complaint):
        bounds.oldest(project, ["more"])

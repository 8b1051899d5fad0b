"""What ships may be carried by anybody: licences of all in locks/node.lock, from the packages' own metadata."""

import re
from importlib.metadata import PackageMetadata, files, metadata

import pytest

from tests.support.source import ROOT

PERMISSIVE = re.compile(r"\b(?:MIT(?:-0)?|BSD|ISC|Apache|PSF-2\.0|MPL|Mozilla Public License)", re.IGNORECASE)
REFUSED = re.compile(
    r"\b(?:A?GPL|Affero|GNU General Public|SSPL|BUSL|Commons Clause|Non-?Commercial|proprietary)", re.IGNORECASE
)
LESSER = re.compile(r"\b(?:LGPL|GNU Lesser|GNU Library)", re.IGNORECASE)
LESSER_ACCEPTED: dict[str, str] = {}  # package: why


def shipped() -> list[str]:
    return re.findall(r"^([a-z0-9][a-z0-9._-]*)==", (ROOT / "locks/node.lock").read_text(), re.MULTILINE)


@pytest.mark.parametrize("package", shipped())
def test_what_ships_may_be_carried_by_anybody(package: str):
    assert refusal(package, licence_of(metadata(package)) or heading(package)) == ""


@pytest.mark.parametrize(
    ("licence", "why"),
    [
        ("MIT", ""),
        ("Apache-2.0 OR BSD-3-Clause", ""),
        ("GPL-3.0-only", "refused"),
        ("MIT AND AGPL-3.0", "refused"),
        ("GNU Affero General Public License v3", "refused"),
        ("LGPL-3.0-only", "not listed"),
        ("GNU Lesser General Public License v3 (LGPLv3)", "not listed"),
        ("", "unknown"),
        ("see the web page", "unknown"),
    ],
)
def test_a_licence_is_judged_by_its_name(licence: str, why: str):
    assert why in refusal("example", licence)
    assert bool(why) == bool(refusal("example", licence))


def licence_of(package: PackageMetadata) -> str:
    """Return what the metadata says: the SPDX expression, or the older fields together."""
    expression = package.get_all("License-Expression")
    if expression:
        return " ".join(expression)
    classifiers = [c for c in package.get_all("Classifier") or [] if c.startswith("License ::")]
    return " | ".join([*(text.partition("\n")[0] for text in package.get_all("License") or []), *classifiers])


def heading(package: str) -> str:
    """Return how the licence file begins, for a package whose metadata names no licence."""
    texts = (file.read_text() for file in files(package) or [] if "/licenses/LICENSE" in str(file))
    return " ".join(next(texts, "").split()[:4])


def refusal(package: str, licence: str) -> str:
    """Return why a package may not ship, or nothing."""
    if LESSER.search(licence) and package not in LESSER_ACCEPTED:
        return f"{package}: {licence} is not listed in LESSER_ACCEPTED"
    if REFUSED.search(LESSER.sub("", licence)):
        return f"{package}: {licence} is refused"
    if not PERMISSIVE.search(licence) and not LESSER.search(licence):
        return f"{package}: the licence is unknown: {licence!r}"
    return ""

"""What a file may be called, and what may not be written into the tree."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.support.source import ROOT, files, text

VAGUE = {"common", "helpers", "manager", "misc", "models", "utils"}
# a role and its play are called by their subject, and this one brings model weights
SUBJECTS = {Path("playbooks/roles/models"), Path("playbooks/models.yml")}
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|home/\w+)/\w")  # ruff's S108 sees to temporary folders
REGISTRY = re.compile(r"\b(?:pypi|pythonhosted|deb\.debian|huggingface|docker|ghcr|quay)\.(?:org|com|co|io|net)\b")
INDEX_OPTION = re.compile(r"--(?:extra-)?index-url[ =]\S|https?://[\w.:@-]+/(?:simple|pypi)\b")
TOO_LONG = 400
# the auditor's verifier is one file on purpose: it is carried to a machine that has nothing but Python
ONE_FILE = {Path("controlplane/verifier/redoubt_verify.py")}


def test_no_file_or_folder_has_a_name_that_says_nothing():
    assert list(vague_names(files())) == []


def test_a_vague_name_is_found_wherever_it_stands():
    asked = (Path("controlplane/kit/utils.py"), Path("tests/helpers/x.py"), Path("controlplane/models.py"))

    assert list(vague_names(asked)) == [str(path) for path in asked]


def test_every_init_is_empty():
    assert [str(path) for path in files() if path.name == "__init__.py" and text(path)] == []


def test_every_package_of_the_control_plane_has_an_init():
    folders = {path.parent for path in files() if path.suffix == ".py" and path.is_relative_to("controlplane")}

    assert [str(folder) for folder in sorted(folders) if not (ROOT / folder / "__init__.py").is_file()] == []


def test_no_path_of_one_machine_and_no_registry_is_written_down():
    assert list(foreign_places((path, text(path)) for path in files())) == []


def test_a_machine_path_and_a_registry_are_found():
    lines = (
        'cache = "/ho',
        'me/anna/x"\nurl = "https://files.pythonho',
        'sted.org/x"\nok = "/var/lib"\npip --index-url',
        "=x",
    )

    found = list(foreign_places([(Path("a.py"), "".join(lines))]))

    assert found == ["a.py:1", "a.py:2", "a.py:4"]


def test_no_python_file_is_longer_than_a_reader_bears():
    python = [path for path in files() if path.suffix == ".py" and path not in ONE_FILE]

    assert [f"{path}: {n} lines" for path in python if (n := _lines(path)) > TOO_LONG] == []


def vague_names(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        if any(path.is_relative_to(subject) for subject in SUBJECTS):
            continue
        if VAGUE.intersection(path.with_suffix("").parts):
            yield str(path)


def foreign_places(sources: Iterable[tuple[Path, str]]) -> Iterator[str]:
    for path, source in sources:
        for number, line in enumerate(source.splitlines(), start=1):
            if any(pattern.search(line) for pattern in (MACHINE_PATH, REGISTRY, INDEX_OPTION)):
                yield f"{path}:{number}"


def _lines(path: Path) -> int:
    return text(path).count("\n")

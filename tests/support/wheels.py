"""A small wheel."""

import zipfile
from pathlib import Path


def fake_wheel(folder: Path, name: str, version: str, content: str = "", metadata: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    stem = f"{name.replace('.', '_').lower()}-{version}"
    wheel = folder / f"{stem}-py3-none-any.whl"
    info = f"{stem}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("some_tool.py", content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel

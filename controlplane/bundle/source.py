"""Where a bundle comes from: a folder, a tar, a delta, or a tar in parts. Standard library and kit alone."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from controlplane.bundle.archive import BUILT, Head, Placed, folder_head, place, require_no_parts, tar_head
from controlplane.bundle.check import folder_layout, framing_faults, require_whole, slices
from controlplane.bundle.contents import Carried, Contents
from controlplane.bundle.delta_list import DeltaList, files_of, read_delta
from controlplane.bundle.reader import OneFile, Punch, Reader, opened
from controlplane.kit.errors import BadInput


@dataclass(frozen=True)
class Source:
    """One of `folder` and `tar` is there."""

    name: str
    head: Head
    folder: Path | None = None
    tar: Reader | None = None

    @property
    def delta(self) -> DeltaList | None:
        return read_delta(self.head.delta) if self.head.delta is not None else None

    def body(self, contents: Contents) -> dict[str, Placed]:
        """Return where the carried files lie in the tar; raises Refused when tar or folder is not laid out so."""
        if self.folder is not None:
            require_whole(folder_layout(self.folder, contents)[0], self.name, "the command")
        if self.tar is None:
            return {}
        body = place(files_of(contents, self.delta), self.head.body_at)
        require_whole(framing_faults(self.tar, body, self.head), self.name, "the command")
        return {placed.file.path: placed for placed in body}

    def pieces(self, file: Carried, body: Mapping[str, Placed]) -> Iterator[memoryview]:
        """Yield the content of one file; `body` says where it lies in the tar."""
        if self.tar is not None and file.path in body:
            yield from slices(self.tar, body[file.path].data_at, file.size_bytes)
        elif self.folder is not None:
            handle = os.open(self.folder / file.path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                yield from slices(OneFile(handle), 0, file.size_bytes)
            finally:
                os.close(handle)

    def carried(self, contents: Contents) -> tuple[Carried, ...]:
        """Return the files whose content is here."""
        return files_of(contents, self.delta)


@contextmanager
def opened_source(path: Path, parts: Sequence[Path] = (), punch: Punch | None = None) -> Iterator[Source]:
    """Open a source and read its head; raises BadInput when there is none."""
    if path.is_dir() and not parts:
        yield Source(path.name, folder_head(path), folder=path)
    elif path.exists():
        if not parts:
            require_no_parts(path)
        with opened(list(parts) or [path], punch) as tar:
            yield Source(path.name, tar_head(tar, path.name), tar=tar)
    else:
        raise BadInput(f"{path} does not exist", remedy=BUILT)

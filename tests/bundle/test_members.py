"""A tar may hold plain files of its manifest and nothing else, whatever it calls its members."""

import io
import tarfile

import pytest

from controlplane.bundle.intake import take_in
from controlplane.bundle.manifest import CarriedFile
from controlplane.bundle.roots import is_good_signature
from controlplane.bundle.verify import verify_bundle
from controlplane.kit.errors import Refused
from tests.bundle.test_intake import asked, journal, leftovers, serves
from tests.support.bundles import SmallBundle

DEB = "apt/pool/tool_1.deb"


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def plain(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = 4
    return member


def special(name: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    return member


EVIL = {
    "symbolic link out": (link("apt/pool/x", "/etc/shadow", tarfile.SYMTYPE), "is a symbolic link to /etc/shadow"),
    "symbolic link in": (link("apt/pool/x", "tool_1.deb", tarfile.SYMTYPE), "is a symbolic link"),
    "hard link": (link("apt/pool/x", "/etc/shadow", tarfile.LNKTYPE), "is a hard link to /etc/shadow"),
    "device": (special("apt/pool/x", tarfile.BLKTYPE), "is a device"),
    "pipe": (special("apt/pool/x", tarfile.FIFOTYPE), "is a pipe"),
    "folder": (special("apt/pool/x", tarfile.DIRTYPE), "is a folder"),
    "absolute path": (plain("/etc/cron.d/x"), "is a path outside the bundle"),
    "path out": (plain("apt/../../x"), "is a path outside the bundle"),
    "unknown file": (plain("apt/pool/x"), "is in the bundle and not in its manifest"),
    "known file again": (plain(DEB), "twice"),
}


def with_member(bundle: SmallBundle, evil: tarfile.TarInfo) -> bytes:
    """Return the tar of a bundle with one member more, before the file that it shadows or at the end."""
    out = io.BytesIO()
    with tarfile.open(bundle.archive) as good, tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as bad:
        for member in good:
            bad.addfile(member, good.extractfile(member))
        bad.addfile(evil, io.BytesIO(b"evil") if evil.size else None)
    return out.getvalue()


@pytest.mark.parametrize(("member", "words"), EVIL.values(), ids=EVIL)
def test_a_member_that_does_not_belong_is_named_and_the_bundle_before_stays(bundle, tmp_path, member, words):
    depot = tmp_path / "depot"
    take_in(asked(bundle, depot), is_good_signature)
    following = SmallBundle(tmp_path / "next", wheel=b"later", key=bundle.key, root=bundle.root, serial=2)
    following.archive.write_bytes(with_member(following, member))

    with pytest.raises(Refused, match=words):
        verify_bundle(following.archive, following.trust())
    with pytest.raises(Refused, match=words):
        take_in(asked(following, depot), is_good_signature)

    assert serves(depot, bundle)
    assert leftovers(depot) == set()
    assert words in str(journal(depot)[-1]["result"])


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE], ids=["symbolic", "hard"])
def test_a_file_that_became_a_link_is_no_file(bundle, kind):
    out = io.BytesIO()
    with tarfile.open(bundle.archive) as good, tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as bad:
        for member in good:
            if member.name == DEB:
                bad.addfile(link(DEB, "/etc/passwd", kind))
            else:
                bad.addfile(member, good.extractfile(member))
    bundle.archive.write_bytes(out.getvalue())

    with pytest.raises(Refused, match=f"{DEB} is a (symbolic|hard) link to /etc/passwd"):
        verify_bundle(bundle.archive, bundle.trust())


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("files/Read", "files/read"), "nothing but upper and lower case"),
        (("files/a", "files/a/b"), "both a file and a folder"),
        (("files/back\\slash",), "outside the bundle"),
        (("files/line\nbreak",), "outside the bundle"),
        (("trust/extra",), "does not belong|cannot be named"),
    ],
    ids=["case", "file and folder", "backslash", "line break", "trust"],
)
def test_names_that_some_file_system_takes_for_others_are_refused_though_signed(bundle, names, words):
    listed = [CarriedFile(path=name, sha256="0" * 64, size_bytes=0) for name in names]
    bundle.seal(tuple(sorted([*bundle.manifest(()).files, *listed], key=lambda file: file.path)))

    with pytest.raises(Refused, match=words):
        verify_bundle(bundle.folder, bundle.trust())

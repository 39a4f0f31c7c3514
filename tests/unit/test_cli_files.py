"""What ``cp`` and ``build`` send and unpack: where files land, what is left out, and that no archive leads astray."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from fairlead.cli import building, ignoring, tars
from fairlead.cli.copying import landing, renamer, split
from fairlead.errors import Invalid


@pytest.mark.parametrize(
    ("source_folder", "target", "exists", "folder", "lands"),
    [
        (False, "/there", True, True, ("/there", "")),
        (False, "/a/file", True, False, ("/a", "file")),
        (False, "/a/new", False, False, ("/a", "new")),
        (True, "/there", True, True, ("/there", "")),
        (True, "/a/new", False, False, ("/a", "new")),
        (True, "/a/new/", False, False, ("/a", "new")),
        (True, "/a/file", True, False, "cannot copy directory"),
        (False, "/a/new/", False, False, "no such directory"),
        (False, "/new", False, False, ("/", "new")),
    ],
)
def test_landing(source_folder: bool, target: str, exists: bool, folder: bool, lands: object) -> None:
    try:
        assert landing(source_folder, target, exists, folder) == lands
    except Invalid as problem:
        assert problem.message == lands


def test_names() -> None:
    assert [renamer("new")(name) for name in ("old", "old/", "old/a", "./a")] == ["new", "new", "new/a", "new/a"]
    assert renamer("")("old/a") == "old/a"
    assert split("box:/a:b") == ("box", "/a:b")
    assert split("/a:b") == ("", "/a:b") == split("/a:b")
    assert split("./a:b")[0] == split("plain")[0] == ""


def archive(*entries: tuple[str, str, str]) -> io.BytesIO:
    """A tar file of (kind, name, content or target)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for kind, name, text in entries:
            entry = tarfile.TarInfo(name)
            entry.type = {"f": tarfile.REGTYPE, "d": tarfile.DIRTYPE, "l": tarfile.SYMTYPE, "h": tarfile.LNKTYPE}[kind]
            entry.mode = 0o755
            entry.linkname = text if kind in "lh" else ""
            entry.size = len(text) if kind == "f" else 0
            tar.addfile(entry, io.BytesIO(text.encode()) if kind == "f" else None)
    out.seek(0)
    return out


@pytest.mark.parametrize(
    "entries",
    [
        [("f", "../out", "x")],
        [("f", "a/../../out", "x")],
        [("l", "a", ".."), ("f", "a/out", "x")],
        [("l", "a", "/"), ("d", "a/out", "")],
        [("h", "a", "../secret")],
        [("l", "a", ".."), ("h", "b", "a/secret")],
    ],
)
def test_an_archive_stays_where_it_is_unpacked(entries: list[tuple[str, str, str]], tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "secret").write_text("s")
    with pytest.raises(Invalid, match="wants to write outside"):
        tars.unpack(archive(*entries), str(home), renamer(""), owners=False)
    assert not (tmp_path / "out").exists()


def test_a_link_in_the_way_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "secret").write_text("s")
    (tmp_path / "home" / "a").symlink_to(tmp_path / "secret")
    tars.unpack(archive(("f", "a", "new")), str(tmp_path / "home"), renamer(""), owners=False)
    assert (tmp_path / "secret").read_text() == "s"
    assert (tmp_path / "home" / "a").read_text() == "new"


def test_there_and_back(tmp_path: Path) -> None:
    source, home = tmp_path / "source", tmp_path / "home"
    (source / "sub").mkdir(parents=True)
    home.mkdir()
    (source / "sub" / "big").write_bytes(os.urandom(3_000_001))
    (source / "empty").touch(0o600)
    (source / "link").symlink_to("sub/big")
    os.link(source / "empty", source / "same")
    packed = io.BytesIO(b"".join(tars.pack(tars.walk(str(source), "x"))))
    tars.unpack(packed, str(home), renamer("y"), owners=False)
    assert (home / "y/sub/big").read_bytes() == (source / "sub/big").read_bytes()
    assert (home / "y/link").readlink() == Path("sub/big")
    assert (home / "y/empty").stat().st_ino == (home / "y/same").stat().st_ino
    assert (home / "y/empty").stat().st_mode & 0o777 == 0o600


def test_a_file_that_shrinks_meanwhile_keeps_its_place(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 1000)
    (tmp_path / "b").write_bytes(b"b")
    pieces = tars.pack([("a", str(tmp_path / "a")), ("b", str(tmp_path / "b"))])
    head = next(pieces)
    (tmp_path / "a").write_bytes(b"short")
    with tarfile.open(fileobj=io.BytesIO(head + b"".join(pieces))) as tar:
        assert [entry.size for entry in tar] == [1000, 1]


@pytest.mark.parametrize(
    ("rules", "name", "left_out"),
    [
        ("*.log", "a.log", True),
        ("*.log", "sub/a.log", False),
        ("**/*.log", "sub/deep/a.log", True),
        ("**/*.log", "a.log", True),
        ("node_modules", "node_modules/x/y", True),
        ("node_modules", "sub/node_modules", False),
        ("docs/?.md", "docs/a.md", True),
        ("docs/?.md", "docs/ab.md", False),
        ("*\n!keep", "keep", False),
        ("*\n!keep\nkeep", "keep", True),
        ("# a\n\n a.b ", "a.b", True),
        ("a.b", "axb", False),
        ("/a", "a", True),
        ("[a-c]x", "bx", True),
        (r"\*", "*", True),
        ("sub/**", "sub/a/b", True),
    ],
)
def test_dockerignore(rules: str, name: str, left_out: bool) -> None:
    assert ignoring.ignored(name, ignoring.patterns(rules)) is left_out


def test_the_context_of_a_build(tmp_path: Path) -> None:
    for name in ("Dockerfile", "a.log", "sub/keep.log", "sub/b.log", "left/c", ".dockerignore"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / ".dockerignore").write_text("**/*.log\n!sub/keep.log\nleft\nDockerfile\n.dockerignore\n")
    body, dockerfile = building._context(str(tmp_path), "", io.StringIO())
    with tarfile.open(fileobj=io.BytesIO(b"".join(body))) as tar:
        assert {entry.name for entry in tar} == {".dockerignore", "Dockerfile", "sub", "sub/keep.log"}
        assert {(entry.uid, entry.uname) for entry in tar} == {(0, "")}
    assert dockerfile == "Dockerfile"


def test_a_dockerfile_from_elsewhere_is_sent_and_ignored(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("FROM x")
    (tmp_path / "context").mkdir()
    body, dockerfile = building._context(str(tmp_path / "context"), str(tmp_path / "other"), io.StringIO())
    with tarfile.open(fileobj=io.BytesIO(b"".join(body))) as tar:
        assert tar.extractfile(dockerfile).read() == b"FROM x"  # type: ignore[union-attr]
        assert dockerfile in tar.extractfile(".dockerignore").read().decode().split()  # type: ignore[union-attr]

"""What layers weigh."""

import io
import tarfile

import pytest

from fairlead.host.weight import Weight


def layer(format: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for name, size in (("a", 5), ("b" * 150, 1000), ("c/.wh.d", 0), ("e", 512)):
            info = tarfile.TarInfo(name)
            info.size = size
            info.pax_headers = {"SCHILY.xattr.user.x": "y" * 700} if format == tarfile.PAX_FORMAT else {}
            tar.addfile(info, io.BytesIO(bytes(size)))
        for kind, target in ((tarfile.SYMTYPE, "seven77"), (tarfile.LNKTYPE, "a"), (tarfile.DIRTYPE, "")):
            info = tarfile.TarInfo(f"k{kind!r}")
            info.type, info.linkname = kind, target
            tar.addfile(info)
    return out.getvalue()


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("step", [1, 511, 1 << 20])
def test_files_and_links_count(format: int, step: int) -> None:
    weight, data = Weight(), layer(format)
    for start in range(0, len(data), step):
        weight.feed(data[start : start + step])
    assert weight.total == 5 + 1000 + 512 + len("seven77")


def test_a_size_beyond_what_octal_digits_hold() -> None:
    for format in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        info = tarfile.TarInfo("big")
        info.size = 1 << 40
        weight = Weight()
        weight.feed(info.tobuf(format))
        assert weight.total == 1 << 40


def test_what_is_no_tar_weighs_what_it_is_long() -> None:
    weight = Weight()
    weight.feed(b"nonsense" * 100)
    assert weight.total == 800

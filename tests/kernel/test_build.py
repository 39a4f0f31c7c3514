"""Builds with the real builder, from a busybox of our own."""

import asyncio
import os
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from storage import Disk, once, tar

from fairlead.core.buildcache import Pruning, Spare
from fairlead.core.container import NEVER
from fairlead.core.imagespec import BuildPlace, BuildRequest, Credentials
from fairlead.engine.builds import Builds
from fairlead.errors import FairleadError, Invalid
from fairlead.host.build import Buildah, Run

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Disk]:
    made = await Disk(tmp_path).open()
    busybox = Path(shutil.which("busybox") or "busybox: install busybox-static").read_bytes()
    await made.image("base", ("bin", None), ("bin/busybox", busybox), ("bin/sh", "busybox"), ("bin/cat", "busybox"))
    yield made
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def builds(disk: Disk) -> Builds:
    builder = Buildah(str(disk.folder / "build"), disk.layout, disk.registry, lambda: disk.layers.driver, lambda: NEVER)
    return Builds(disk.images, disk.transfers, builder)


async def build(builds: Builds, request: BuildRequest, *files: tuple[str, bytes]) -> list[str]:
    lines = builds.build(request, once(tar(*files)), lambda domain: Credentials())
    return [line.get("stream") or str(line) async for line in lines]


async def test_stages_arguments_and_names(disk: Disk, builds: Builds) -> None:
    text = (
        b"ARG FROM=nowhere\nFROM $FROM AS one\nCOPY f /from-context\n"
        b"FROM scratch\nARG WHO=nobody\nCOPY --from=one /from-context /f\n"
        b'ENV A=$WHO\nHEALTHCHECK CMD ["x"]\nCMD ["/f"]\n'
    )
    request = BuildRequest(
        dockerfile="sub/My", tags=("t1", "t2:x"), arguments={"FROM": "base", "WHO": "me"}, labels={"a": "b"}
    )
    told = await build(builds, request, ("sub/My", text), ("f", b"content"))
    image = disk.images.get("t2:x")
    assert told[-3:] == [
        f"Successfully built {image.short}\n",
        "Successfully tagged t1:latest\n",
        "Successfully tagged t2:x\n",
    ]
    assert image.tags == ("t1:latest", "t2:x") and image.labels["a"] == "b"
    assert "A=me" in (image.config.env or ()) and image.config.cmd == ("/f",)
    assert image.config.healthcheck is not None and image.config.healthcheck.test == ("CMD", "x")
    assert (Path(await disk.layout.unpack(image)) / "f").read_bytes() == b"content"
    assert any("Step 1/" in line for line in told)


async def test_the_second_build_is_the_first(builds: Builds, disk: Disk) -> None:
    file = ("Dockerfile", b"FROM base\nENV A=b\n")
    await build(builds, BuildRequest(tags=("a",)), file)
    assert (await build(builds, BuildRequest(tags=("b",), quiet=True), file)) == [disk.images.get("a").id + "\n"]
    assert disk.images.get("a").id == disk.images.get("b").id
    gone, freed = await builds.prune(Pruning())
    assert disk.images.get("a").id.removeprefix("sha256:") in gone
    told = [(event.kind, event.action) for event in disk.events._last]
    assert freed > 0 and disk.events._last[-1].attributes == {"reclaimed": str(freed)}
    assert told[-4:] == [("image", "create"), ("image", "tag"), ("image", "tag"), ("builder", "prune")]


async def test_of_the_cache_goes_what_was_asked_for(builds: Builds, disk: Disk) -> None:
    """Alone: neither what it was built on nor what was built on it. What a later build used is not old."""
    first = ("Dockerfile", b"FROM base\nCOPY f /f\nENV A=a\n")
    await build(builds, BuildRequest(tags=("a",)), first, ("f", b"x"))
    between = time.time_ns()
    second = ("Dockerfile", b"FROM base\nCOPY f /f\nENV A=b\n")
    told = await build(builds, BuildRequest(tags=("b",)), second, ("f", b"x"))
    assert told.count(" ---> Using cache\n") == 1
    old, new = (disk.images.get(name).id.removeprefix("sha256:") for name in ("a", "b"))
    assert await builds.prune(Pruning(until=between, named=new.startswith)) == ([], 0)
    assert await builds.prune(Pruning(impossible=True)) == ([], 0)
    assert await builds.prune(Pruning(spare=Spare(reserved=1 << 40))) == ([], 0)
    gone, freed = await builds.prune(Pruning(until=between))
    assert gone == [old] and freed > 0
    told = await build(builds, BuildRequest(), second, ("f", b"x"))
    assert told.count(" ---> Using cache\n") == 2, "the base and both steps are there"
    copied = disk.images.get(disk.images.get("b").parent).id.removeprefix("sha256:")
    assert (await builds.prune(Pruning(named=new.startswith)))[0] == [new]
    assert copied in (await builds.prune(Pruning(spare=Spare(most=1))))[0]


async def test_a_failed_step_is_told_in_dockers_words(builds: Builds, disk: Disk) -> None:
    before = disk.images.list()
    with pytest.raises(FairleadError) as error:
        await build(builds, BuildRequest(), ("Dockerfile", b"FROM base\nRUN exit 7\n"))
    assert error.value.message == "The command '/bin/sh -c exit 7' returned a non-zero code: 7"
    with pytest.raises(FairleadError, match="nosuch"):
        await build(builds, BuildRequest(), ("Dockerfile", b"FROM base\nCOPY nosuch /\n"))
    assert disk.images.list() == before


async def test_what_cannot_be_built(builds: Builds) -> None:
    with pytest.raises(FairleadError, match="Cannot locate specified Dockerfile: Dockerfile"):
        await build(builds, BuildRequest(), ("other", b""))
    with pytest.raises(Invalid, match="Error processing tar file"):
        [line async for line in builds.build(BuildRequest(), once(b"nonsense" * 99), lambda domain: Credentials())]


async def test_an_archive_without_its_trailer(builds: Builds, disk: Disk) -> None:
    """So Docker's client ends one whose Dockerfile comes from elsewhere: after the last byte of the last file."""
    text = b"FROM base\nENV A=b\n"
    cut = tar(("Dockerfile", text))[: 512 + len(text)]
    assert [line async for line in builds.build(BuildRequest(tags=("a",)), once(cut), lambda domain: Credentials())]
    assert "A=b" in (disk.images.get("a").config.env or ())


async def test_steps_run_in_the_network_they_are_given(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/hosts").write_text("10.9.8.7\tfriend\n")
    (tmp_path / "files/resolv.conf").write_text("nameserver 127.0.0.11\n")
    elsewhere = subprocess.Popen(["unshare", "--net", "sleep", "60"])
    place = BuildPlace(f"/proc/{elsewhere.pid}/ns/net", str(tmp_path / "files"))
    builder = Buildah(str(disk.folder / "build"), disk.layout, disk.registry, lambda: disk.layers.driver, lambda: NEVER)
    builds = Builds(disk.images, disk.transfers, builder, lambda request: nullcontext(place))
    look = b"FROM base\nRUN cat /etc/hosts /etc/resolv.conf; while read -r l; do echo device $l; done </proc/net/dev\n"
    try:
        while os.readlink(place.namespace) == os.readlink("/proc/self/ns/net"):
            await asyncio.sleep(0)
        told = "".join(await build(builds, BuildRequest(), ("Dockerfile", look)))
    finally:
        elsewhere.kill()
        elsewhere.wait()
    assert [line.split()[1] for line in told.splitlines() if line.startswith("device ") and ":" in line] == ["lo:"]
    assert "10.9.8.7\tfriend\n" in told and "nameserver 127.0.0.11\n" in told
    assert "127.0.0.11" not in Path("/etc/resolv.conf").read_text()


STORY = r"""
Step 1/8 : ARG A=1
Step 2/8 : FROM base AS one
 ---> <1>
Step 3/8 : ENV B=2   C=3
 ---> Running in <2>
 ---> Removed intermediate container <2>
 ---> <3>
Step 4/8 : RUN echo out
 ---> Running in <4>
out
 ---> Removed intermediate container <4>
 ---> <5>
Step 5/8 : RUN echo careful >&2
 ---> Running in <6>
RED(careful
) ---> Removed intermediate container <6>
 ---> <7>
Step 6/8 : FROM one
 ---> <7>
Step 7/8 : COPY --from=one /bin/sh /x
 ---> <8>
Step 8/8 : LABEL k=v w
 ---> Running in <9>
 ---> Removed intermediate container <9>
 ---> <10>
Successfully built <10>
"""
"""What dockerd 28 prints, word for word; ids by the order in which they come."""


def _numbered(told: list[str]) -> str:
    seen: dict[str, str] = {}
    text = (
        "".join(line for line in told if not line.startswith("{")).replace("\x1b[91m", "RED(").replace("\x1b[0m", ")")
    )
    text = re.sub(r"\b[0-9a-f]{12}\b", lambda found: seen.setdefault(found[0], f"<{len(seen) + 1}>"), text)
    return "\n" + text


async def test_a_build_is_told_in_dockers_words(builds: Builds) -> None:
    text = (
        b"ARG A=1\nFROM base AS one\nENV B=2 \\\n  C=3\nRUN echo out\nRUN echo careful >&2\n"
        b"FROM one\nCOPY --from=one /bin/sh /x\n"
    )
    file, request = ("Dockerfile", text), BuildRequest(labels={"k": "v w"})
    assert _numbered(await build(builds, request, file)) == STORY
    again = _numbered(await build(builds, request, file)).splitlines()
    assert again[4:7] == ["Step 3/8 : ENV B=2   C=3", " ---> Using cache", " ---> <2>"]
    assert again.count(" ---> Using cache") == 5 and "out" not in again
    afresh = BuildRequest(labels={"k": "v w"}, no_cache=True)
    assert _numbered(await build(builds, afresh, file)) == STORY


async def test_the_container_of_a_step_may_do_what_dockers_may(builds: Builds) -> None:
    look = b"FROM base\nRUN while read -r l; do echo $l; done </proc/self/status\n"
    told = "".join(await build(builds, BuildRequest(), ("Dockerfile", look)))
    assert "CapEff: 00000000a80425fb\n" in told


async def test_a_dockerfile_outside_its_context_is_not_read(builds: Builds, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"FROM base\n")
    for name in ("../../../../secret", str(tmp_path / "secret")):
        with pytest.raises(FairleadError, match=r"Cannot locate|forbidden path outside the build context"):
            await build(builds, BuildRequest(dockerfile=name), ("f", b""))


DOCUMENTS = rb"""FROM base
ENV WHO=me
RUN <<EOF
cat >/script <<'X'
of $WHO
X
echo "it is $WHO"
EOF
RUN cat <<EOF >/filled
hello $WHO
EOF
RUN <<EOF
#!/bin/busybox sh
echo "run by $0" >/by
EOF
COPY . /context/
COPY <<first <<"second" /files/
one of $WHO
first
two of $WHO
second
"""


async def test_here_documents(disk: Disk, builds: Builds) -> None:
    """With a builder that knows them, and with one that does not."""
    told = await build(builds, BuildRequest(tags=("a",)), ("Dockerfile", DOCUMENTS), ("f", b""))
    root = Path(await disk.layout.unpack(disk.images.get("a")))
    made = ("script", "filled", "by", "context/f", "files/first", "files/second")
    said = ["of $WHO\n", "hello me\n", "run by /dev/fd/3\n", "", "one of me\n", "two of $WHO\n"]
    assert [(root / name).read_text() for name in made] == said
    assert sorted(path.name for path in (root / "context").iterdir()) == ["Dockerfile", "f"]
    assert (root / "files/first").stat().st_mode & 0o777 == 0o644
    assert "Step 3/7 : RUN <<EOF" in told and "it is me\n" in told
    again = await build(builds, BuildRequest(), ("Dockerfile", DOCUMENTS), ("f", b""))
    assert again.count(" ---> Using cache\n") == 6
    changed = DOCUMENTS.replace(b"two of", b"three of")
    changed_told = await build(builds, BuildRequest(tags=("b",)), ("Dockerfile", changed), ("f", b""))
    assert changed_told.count(" ---> Using cache\n") == 4  # the context changed, too: the Dockerfile is in it
    other = Path(await disk.layout.unpack(disk.images.get("b")))
    assert (other / "files/second").read_text() == "three of $WHO\n"


async def test_a_step_with_a_here_document_that_fails(builds: Builds) -> None:
    with pytest.raises(FairleadError) as error:
        await build(builds, BuildRequest(), ("Dockerfile", b"FROM base\nRUN <<EOF\nexit 7\nEOF\n"))
    assert error.value.message == "The command '/bin/sh -c exit 7\n' returned a non-zero code: 7"


async def test_a_long_here_document(disk: Disk, builds: Builds) -> None:
    lines = b"".join(b"echo line %d >>/lines\n" % number for number in range(5000))
    await build(builds, BuildRequest(tags=("a",)), ("Dockerfile", b"FROM base\nRUN <<EOF\n" + lines + b"EOF\n"))
    root = Path(await disk.layout.unpack(disk.images.get("a")))
    assert (root / "lines").read_text().endswith("line 4999\n")


def _ids(told: list[str]) -> list[str]:
    return re.findall(r"^ ---> ([0-9a-f]{12})$", "".join(told), re.MULTILINE)


STAGES = b"FROM base AS one\nENV A=b\nRUN echo x >/x\nFROM base\nCOPY --from=one /x /y\nCMD c\n"


async def test_the_image_of_each_step_is_one(disk: Disk, builds: Builds) -> None:
    base = disk.images.get("base")
    told = await build(builds, BuildRequest(tags=("t",)), ("Dockerfile", STAGES))
    steps = [disk.images.get(id) for id in _ids(told)]
    assert [(step.parent, step.tags) for step in steps] == [
        ("", ("base:latest",)), (base.id, ()), (steps[1].id, ()),
        ("", ("base:latest",)), (base.id, ()), (steps[4].id, ("t:latest",)),
    ]  # fmt: skip
    assert steps[1].config.env and "A=b" in steps[1].config.env and len(steps[1].layers) == 1
    assert (Path(await disk.layout.unpack(steps[2])) / "x").read_bytes() == b"x\n"
    assert all(step.layers[0] == base.layers[0] for step in steps), "what is here is not fetched again"
    history = disk.images.history("t")
    assert [step.id for step in history] == [steps[5].id, steps[4].id, base.id]
    assert disk.images.built_on() - {""} == {base.id, steps[1].id, steps[4].id}


async def test_images_of_steps_go_with_the_last_that_needs_them(disk: Disk, builds: Builds) -> None:
    told = await build(builds, BuildRequest(tags=("t",)), ("Dockerfile", STAGES))
    _, first, second, _, copied, last = (disk.images.get(id).id for id in _ids(told))
    gone, _ = await disk.images.prune(lambda image: True)
    assert [each.deleted for each in gone if each.deleted in (first, second, copied, last)] == [second, first]
    with pytest.raises(FairleadError, match="image has dependent child images"):
        await disk.images.remove(copied)
    await disk.images.remove("t")
    assert [image.tags for image in disk.images.list()] == [("base:latest",)]
    again = await build(builds, BuildRequest(), ("Dockerfile", STAGES))
    assert again.count(" ---> Using cache\n") == 4 and _ids(again) == _ids(told)
    assert (Path(await disk.layout.unpack(disk.images.get(second))) / "x").read_bytes() == b"x\n"


async def test_a_build_that_fails_leaves_the_images_of_its_steps(disk: Disk, builds: Builds) -> None:
    told: list[str] = []
    file = tar(("Dockerfile", b"FROM base\nRUN echo x >/x\nRUN exit 7\n"))
    with pytest.raises(FairleadError, match="non-zero code: 7"):
        async for line in builds.build(BuildRequest(), once(file), lambda domain: Credentials()):
            told.append(line["stream"])
    made = disk.images.get(_ids(told)[-1])
    assert (Path(await disk.layout.unpack(made)) / "x").read_bytes() == b"x\n"


async def test_what_is_here_stays_while_a_build_takes_over(
    disk: Disk, builds: Builds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base goes while the layers above it are fetched."""
    fetch = Run._fetch

    async def interrupted(*words: Any) -> Any:
        await disk.images.remove("base")
        return await fetch(*words)

    monkeypatch.setattr(Run, "_fetch", interrupted)
    await build(builds, BuildRequest(tags=("t",)), ("Dockerfile", b"FROM base\nRUN echo x >/x\n"))
    assert (Path(await disk.layout.unpack(disk.images.get("t"))) / "bin/busybox").exists()

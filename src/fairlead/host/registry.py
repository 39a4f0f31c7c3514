"""Registries and image archives: skopeo fetches, pushes and converts.

    registry  --- skopeo copy ---> a "dir:" folder --- checked, moved ---> blobs
    archive   --- skopeo copy --->      (same)
    blobs     --- linked -------->  a "dir:" folder --- skopeo copy ---> registry
    blobs     --- linked -------->  a folder ------------- tar --------> archive (Docker's and OCI at once)

Everything goes through skopeo's plain ``dir:`` form because it keeps the
configuration blob byte for byte: so an image has the id that Docker gives it.

Rules
    1. Passwords travel in a file of mode 0600 in the workspace, never on a command line.
    2. What skopeo says is translated to what dockerd says (``_translated``).
    3. Loopback registries may speak plain HTTP, as with Docker; others named in
       ``insecure`` too.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
import tarfile
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

import msgspec

from fairlead.core.imagespec import (
    OCI_LAYER,
    Blob,
    Credentials,
    Fetched,
    ImageRecord,
    read_config,
    read_manifest,
    write_index,
    write_manifest,
)  # fmt: skip
from fairlead.core.reference import Reference
from fairlead.errors import FairleadError, Forbidden, Internal, Invalid, NotFound
from fairlead.host import command
from fairlead.host.images import LAYOUT, Layout

_MESSAGE = re.compile(r'level=fatal msg=(".*")\s*$', re.MULTILINE)
_LOOPBACK = re.compile(r"(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?")
_DIR_VERSION = "Directory Transport Version: 1.1\n"


class Skopeo:
    """The image tool. ``insecure``: registries (host or host:port) that may speak plain HTTP."""

    def __init__(self, layout: Layout, insecure: Sequence[str] = ()) -> None:
        self._layout = layout
        self._insecure = tuple(insecure)

    # -- registries -------------------------------------------------------------------------

    async def digest(self, ref: Reference, credentials: Credentials) -> tuple[str, bytes]:
        """Digest and bytes of the manifest (or list of manifests) under this name."""
        with self._layout.workspace() as folder:
            words = ["inspect", "--raw", *self._auth(folder, ref, credentials), *self._tls(ref, "--tls-verify")]
            done = await self.command([*words, f"docker://{ref.normal}"], folder, ref)
        return "sha256:" + hashlib.sha256(done).hexdigest(), done

    async def tags(self, ref: Reference, credentials: Credentials) -> list[str]:
        """Every tag of a repository."""
        with self._layout.workspace() as folder:
            words = ["list-tags", *self._auth(folder, ref, credentials), *self._tls(ref, "--tls-verify")]
            done = await self.command([*words, f"docker://{ref.name}"], folder, ref)
        return [str(tag) for tag in json.loads(done).get("Tags") or ()]

    async def pull(self, ref: Reference, credentials: Credentials, platform: str) -> Fetched:
        """Fetch one image of the wanted platform (``os/arch[/variant]``, "": this machine's)."""
        with self._layout.workspace() as folder:
            words = [*self._auth(folder, ref, credentials, "--src-authfile"), *self._tls(ref, "--src-tls-verify")]
            given = zip(("os", "arch", "variant"), platform.split("/"), strict=False)
            flags = [f"--override-{name}={value}" for name, value in given if value]
            await self.command([*flags, "copy", *words, f"docker://{ref.normal}", "dir:image"], folder, ref)
            return await self.adopt(folder / "image")

    async def push(self, image: ImageRecord, ref: Reference, credentials: Credentials) -> AsyncIterator[str]:
        """Push; the last thing told is the digest the registry has it under, before it each layer's as it is done."""
        with self._layout.workspace() as folder:
            source = folder / "image"
            source.mkdir()
            (source / "version").write_text(_DIR_VERSION)
            (source / "manifest.json").write_bytes(write_manifest(image, docker=True))
            for digest in {image.id, *(layer.digest for layer in image.layers)}:
                os.link(self._layout.path(digest), source / digest.partition(":")[2])
            words = ["copy", "--digestfile=digest", *self._auth(folder, ref, credentials, "--dest-authfile")]
            words += [*self._tls(ref, "--dest-tls-verify"), "dir:image", f"docker://{ref.normal}"]
            await self.command(words, folder, ref)
            for layer in image.layers:
                yield layer.digest
            yield (folder / "digest").read_text().strip()

    async def login(self, credentials: Credentials) -> None:
        """Whether the registry takes these credentials; an error in its words."""
        server = credentials.server.removeprefix("https://").removeprefix("http://").split("/")[0] or "docker.io"
        ref = Reference("docker.io" if server == "index.docker.io" else server, "library/login")
        with self._layout.workspace() as folder:
            words = ["login", "--authfile=login.json", "--password-stdin", f"--username={credentials.username}"]
            environment = self._layout.environment()
            process = await command.start(
                ["skopeo", *words, *self._tls(ref, "--tls-verify"), ref.domain],
                cwd=str(folder), env=environment, stdin=asyncio.subprocess.PIPE,
            )  # fmt: skip
            try:
                _, err = await process.communicate(credentials.password.encode())
            finally:
                await command.end(process)
            if process.returncode:
                raise _translated(err.decode(errors="replace"), ref)

    async def search(self, term: str, limit: int) -> list[dict[str, Any]]:
        """What Docker Hub finds. ``Unavailable`` when it cannot be reached."""
        url = "https://index.docker.io/v1/search?" + urlencode({"q": term, "n": limit})
        found = msgspec.json.decode(b"".join([piece async for piece in self.fetch(url)]))
        return list(found.get("results") or ()) if isinstance(found, dict) else []

    async def fetch(self, url: str) -> AsyncIterator[bytes]:
        """What is at an http(s) URL, as it comes. ``Internal`` when it cannot be had."""
        import aiohttp  # here, for it costs as much as the rest of the engine's start, and few import from a URL

        try:
            patience = aiohttp.ClientTimeout(total=None, sock_connect=20, sock_read=60)
            async with aiohttp.ClientSession(trust_env=True, timeout=patience) as session, session.get(url) as answer:
                if answer.status >= 400:
                    raise Internal(f"failed to GET {url} with status {answer.status} {answer.reason}")
                async for piece in answer.content.iter_chunked(1 << 16):
                    yield piece
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Internal(f'Get "{url}": {error or type(error).__name__}') from None

    def _tls(self, ref: Reference, flag: str) -> list[str]:
        insecure = _LOOPBACK.fullmatch(ref.domain) or ref.domain in self._insecure
        return [f"{flag}=false"] if insecure else []

    def _auth(self, folder: Path, ref: Reference, credentials: Credentials, flag: str = "--authfile") -> list[str]:
        """An authentication file of this one operation (an empty one without credentials: root's own are not ours)."""
        entry: dict[str, str] = {}
        if credentials.identity_token:
            entry["identitytoken"] = credentials.identity_token
        if credentials.username:
            pair = f"{credentials.username}:{credentials.password}"
            entry["auth"] = base64.b64encode(pair.encode()).decode()
        place = folder / "auth.json"
        with open(os.open(place, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
            json.dump({"auths": {ref.domain: entry} if entry else {}}, file)
        return [f"{flag}={place.name}"]

    async def command(
        self, words: list[str], folder: Path, ref: Reference | None = None, before: Sequence[str] = ()
    ) -> bytes:
        """skopeo in a workspace, with our policy and places; what it prints."""
        argv = [*before, "skopeo", "--policy", self._layout.policy, "--tmpdir", str(folder), *words]
        done = await command.run(argv, cwd=str(folder), env=self._layout.environment())
        if done.code:
            raise _translated(done.err, ref)
        return done.out

    # -- folders of skopeo's -------------------------------------------------------------------

    async def adopt(
        self, source: Path, names: tuple[str, ...] = (), layers_here: Mapping[str, Blob] = MappingProxyType({})
    ) -> Fetched:
        """Check what skopeo wrote into a ``dir:`` folder and make it ours; not the layers we have."""
        manifest = (source / "manifest.json").read_bytes()
        id, layers = read_manifest(manifest)
        content = (source / self._layout.path(id).name).read_bytes()
        if "sha256:" + hashlib.sha256(content).hexdigest() != id:
            raise Invalid(f"image configuration {id} is not what its digest says")
        _, diff_ids = read_config(content)
        if len(diff_ids) != len(layers):
            raise Invalid(f"image {id} has {len(layers)} layers, but its configuration names {len(diff_ids)}")
        blobs: list[Blob] = []
        for (digest, _, _), diff_id in zip(layers, diff_ids, strict=True):
            known = layers_here.get(diff_id) or next((blob for blob in blobs if blob.diff_id == diff_id), None)
            blobs.append(known or await self._layout.take_layer(source / self._layout.path(digest).name, diff_id))
        own = "sha256:" + hashlib.sha256(manifest).hexdigest()
        return Fetched(self._layout.put(content), tuple(blobs), own, names)

    # -- archives ---------------------------------------------------------------------------

    async def load(self, stream: AsyncIterable[bytes]) -> AsyncIterator[Fetched]:
        """The images of an archive that ``docker save`` or an OCI tool wrote, plain or compressed."""
        with self._layout.workspace() as folder:
            with open(folder / "archive.tar", "wb") as file:
                async for piece in stream:
                    file.write(piece)
            kind, entries = await asyncio.to_thread(_contents, folder / "archive.tar")
            for index, names in enumerate(entries):
                source = f"{kind}:archive.tar:@{index}" if kind == "docker-archive" else f"{kind}:archive.tar"
                if kind == "oci-archive" and len(entries) > 1:
                    source += f":{names[0] if names else ''}"
                target = folder / f"image{index}"
                await self.command(["copy", source, f"dir:{target.name}"], folder)
                yield await self.adopt(target, tuple(names))

    async def save(self, images: Sequence[tuple[ImageRecord, Sequence[str]]]) -> AsyncIterator[bytes]:
        """One archive of images under names, an OCI layout with Docker's ``manifest.json`` in it."""
        with self._layout.workspace() as folder:
            top = folder / "archive"
            self._arrange(top, images)
            words = ["tar", "-C", str(top), "--create", "--file=-", "--format=posix", "--numeric-owner", "--owner=0"]
            words += ["--group=0", "--mtime=@0", "--pax-option=delete=atime,delete=ctime", "--sort=name", "."]
            words += ["--transform=s,^\\./,,"]
            process = await command.start([word for word in words if word != "."] + sorted(os.listdir(top)))
            try:
                while process.stdout and (piece := await process.stdout.read(1 << 16)):
                    yield piece
                if await process.wait():
                    raise Internal("cannot write the archive")
            finally:
                await command.end(process)

    def _arrange(self, top: Path, images: Sequence[tuple[ImageRecord, Sequence[str]]]) -> None:
        """A folder as the archive should be; blobs are links."""
        (top / "blobs" / "sha256").mkdir(parents=True)
        docker, entries = [], []
        repositories: dict[str, dict[str, str]] = {}
        for image, names in images:
            manifest = self._layout.manifest(image)
            for digest in {image.id, manifest.digest, *(layer.digest for layer in image.layers)}:
                with suppress(FileExistsError):
                    os.link(self._layout.path(digest), top / _blob(digest))
            entries += [(manifest, name) for name in names or ("",)]
            for name in names if image.layers else ():
                repository, _, tag = name.rpartition(":")
                repositories.setdefault(repository, {})[tag] = image.layers[-1].diff_id.removeprefix("sha256:")
            docker.append(
                {
                    "Config": _blob(image.id),
                    "RepoTags": list(names) or None,
                    "Layers": [_blob(layer.digest) for layer in image.layers],
                    **({"Parent": image.parent} if image.parent else {}),
                    "LayerSources": {layer.diff_id: _source(layer) for layer in image.layers},
                }
            )
        (top / "manifest.json").write_bytes(msgspec.json.encode(docker) + b"\n")
        (top / "repositories").write_bytes(msgspec.json.encode(repositories, order="sorted") + b"\n")
        (top / "index.json").write_bytes(write_index(entries, saved=True))
        (top / "oci-layout").write_text(LAYOUT)


def _blob(digest: str) -> str:
    return "blobs/sha256/" + digest.partition(":")[2]


def _source(layer: Blob) -> dict[str, Any]:
    """What a layer is, where the archive tells of layers one by one."""
    mark = f"+{layer.compression}" if layer.compression else ""
    return {"mediaType": f"{OCI_LAYER}{mark}", "size": layer.size, "digest": layer.digest}


def _contents(place: Path) -> tuple[str, list[list[str]]]:
    """Which kind of archive it is, and the names of each image in it."""
    try:
        with tarfile.open(place, "r:*") as tar:
            documents: dict[str, Any] = {}
            for member in tar:
                name = member.name.removeprefix("./")
                if name in ("manifest.json", "index.json") and member.isreg() and member.size < 16 << 20:
                    file = tar.extractfile(member)
                    documents[name] = msgspec.json.decode(file.read()) if file else None
    except (tarfile.TarError, EOFError, OSError, msgspec.DecodeError) as error:
        if place.stat().st_size < tarfile.BLOCKSIZE or isinstance(error, EOFError) or "end of data" in str(error):
            raise Invalid("unexpected EOF") from None
        if isinstance(error, tarfile.ReadError):
            raise Invalid("archive/tar: invalid tar header") from None
        raise Invalid(f"invalid archive: {error}") from None
    try:
        if "manifest.json" in documents:
            return "docker-archive", [list(entry.get("RepoTags") or ()) for entry in documents["manifest.json"]]
        if "index.json" in documents:
            entries = documents["index.json"]["manifests"]
            return "oci-archive", [_annotated(entry.get("annotations") or {}) for entry in entries]
    except (AttributeError, KeyError, TypeError) as error:
        raise Invalid(f"invalid archive: {error}") from None
    raise Invalid("invalid archive: it has neither manifest.json nor index.json")


def _annotated(annotations: dict[str, str]) -> list[str]:
    name = annotations.get("io.containerd.image.name") or annotations.get("org.opencontainers.image.ref.name")
    return [name] if name else []


def _translated(words: str, ref: Reference | None) -> FairleadError:
    """dockerd's error for skopeo's complaint."""
    found = _MESSAGE.findall(words)
    text = json.loads(found[-1], strict=False) if found else words.strip().splitlines()[-1:] or ["skopeo failed"]
    text = text if isinstance(text, str) else text[0]
    if ref is not None and any(sign in text for sign in ("manifest unknown", "name unknown", "NAME_UNKNOWN")):
        return NotFound(f"manifest for {ref.familiar} not found: manifest unknown: manifest unknown")
    if "invalid username/password" in text or "incorrect username or password" in text:
        return Forbidden(f'Get "https://{ref.domain if ref else ""}/v2/": unauthorized: incorrect username or password')
    if ref is not None and any(sign in text for sign in ("denied", "unauthorized", "authentication required")):
        return NotFound(
            f"pull access denied for {ref.familiar_name}, repository does not exist or may require 'docker login':"
            " denied: requested access to the resource is denied"
        )
    at = text.find('Get "')
    return Internal(text[at:] if at >= 0 else text)

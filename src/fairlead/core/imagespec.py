"""Images as documents: the configuration blob with its capital letters, and our values.

    config blob  <---->  ImageRecord (id = sha256 of the very bytes of the blob)
    manifest     <----   ImageRecord (for umoci and skopeo: an OCI manifest; for a registry: Docker's)

Rules
    1. A blob that came from elsewhere is never written again: its bytes are the
       image's identity. We only write blobs of images that we made.
    2. Docker's additions (health check, ``OnBuild``, ``Shell``) are read and kept.
    3. A configuration that is not one is ``Invalid``, with the field that is wrong.

Sizes are bytes, times RFC 3339 text, digests ``sha256:…``.
"""

import re
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from fairlead.core import reference
from fairlead.core.container import NEVER, Config, Healthcheck
from fairlead.errors import Invalid

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

FULL_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"
"""The annotation by which tools find an image in an OCI layout."""


class Blob(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file of the layout. ``compression`` is "", ``gzip`` or ``zstd``; ``diff_id`` digests the uncompressed tar."""

    digest: str
    size: int
    compression: str = ""
    diff_id: str = ""
    full_size: int = 0
    """bytes of the files in it, as Docker counts them"""


class History(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step of how an image came about; ``empty`` steps have no layer."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty: bool = False


class ImageRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One image as we remember it."""

    id: str
    config: Config = Config()
    tags: tuple[str, ...] = ()
    """familiar names with tag: ``busybox:latest``"""
    digests: tuple[str, ...] = ()
    """familiar names with the registry's digest: ``busybox@sha256:…``"""
    layers: tuple[Blob, ...] = ()
    config_size: int = 0
    manifest: Blob | None = None
    size: int = 0
    """bytes of all layers, unpacked"""
    created: str = NEVER
    tagged: str = NEVER
    """when a name was last given to it on this machine"""
    parent: str = ""
    author: str = ""
    comment: str = ""
    os: str = "linux"
    architecture: str = ""
    variant: str = ""
    docker_version: str = ""
    container: str = ""
    """id of the container it was committed from"""
    history: tuple[History, ...] = ()

    @property
    def short(self) -> str:
        return self.id.removeprefix("sha256:")[:12]

    @property
    def labels(self) -> dict[str, str]:
        return self.config.labels or {}


class Fetched(msgspec.Struct, frozen=True):
    """An image whose blobs are here now: its configuration blob, and where it says it came from."""

    config: Blob
    layers: tuple[Blob, ...]
    digest: str = ""
    """of the manifest it came with"""
    names: tuple[str, ...] = ()
    """the tags an archive gives it"""
    parent: str = ""
    """the image it was built on, here: a step of the same build, or what the Dockerfile starts from"""


class Credentials(msgspec.Struct, frozen=True):
    """Who we are to one registry (X-Registry-Auth). Never logged, never on a command line."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    server: str = ""

    def __repr__(self) -> str:
        return f"Credentials(server={self.server!r})"


class BuildRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A classic build as asked for."""

    dockerfile: str = "Dockerfile"
    tags: tuple[str, ...] = ()
    arguments: dict[str, str | None] = {}
    labels: dict[str, str] = {}
    target: str = ""
    no_cache: bool = False
    network: str = ""
    extra_hosts: tuple[str, ...] = ()
    platform: str = ""
    memory: int = 0
    shm_size: int = 0
    quiet: bool = False
    pull: bool = False
    remove: bool = True
    """the container of a step goes when the step is done"""
    force_remove: bool = False
    """and also when the step failed"""


class BuildPlace(msgspec.Struct, frozen=True):
    """Where the steps of a build run."""

    namespace: str
    """path of its network namespace; "": the host's own"""
    folder: str
    """folder of the files ``hosts`` and ``resolv.conf`` that belong to it"""


class StepContainer(msgspec.Struct, frozen=True, kw_only=True):
    """The container of one step of a build, which stays when the build is over."""

    id: str
    """64 digits; the story tells the first twelve"""
    image: str
    """what it began with; "": nothing"""
    command: tuple[str, ...]
    env: tuple[str, ...] = ()
    """the build's arguments as far as it had them"""
    created: str = NEVER
    started: str = NEVER
    """``NEVER``: no program ran in it"""
    finished: str = NEVER
    code: int = 0
    error: str = ""
    """why its program could not be started"""
    files: str = ""
    """the directory with what it wrote, of the kind that the storage driver makes; "": nothing"""


def _pascal(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


_CONFIG = {_pascal(field): field for field in Config.__struct_fields__}
_HEALTH = {_pascal(field): field for field in Healthcheck.__struct_fields__}


def config_from(document: object) -> Config:
    """The ``config`` part of a blob (or Docker's container configuration) as our value."""
    if document is None:
        return Config()
    if not isinstance(document, dict):
        raise Invalid("invalid image configuration: config is not an object")
    plain = {_CONFIG[key]: value for key, value in document.items() if key in _CONFIG and value is not None}
    health = plain.get("healthcheck")
    if isinstance(health, dict):
        plain["healthcheck"] = {_HEALTH[key]: value for key, value in health.items() if key in _HEALTH}
    try:
        return msgspec.convert(plain, Config)
    except msgspec.ValidationError as error:
        raise Invalid(f"invalid image configuration: {error}") from None


def config_document(config: Config) -> dict[str, Any]:
    """Our value with the format's capital letters; what is at its default is left out."""
    plain = msgspec.to_builtins(config)
    if "healthcheck" in plain:
        plain["healthcheck"] = {_pascal(key): value for key, value in plain["healthcheck"].items()}
    return {_pascal(key): value for key, value in plain.items()}


def read_config(blob: bytes) -> tuple[ImageRecord, tuple[str, ...]]:
    """An image's record from its configuration blob, without id, names and blobs; and its layers' diff ids."""
    try:
        document = msgspec.json.decode(blob)
    except msgspec.DecodeError as error:
        raise Invalid(f"invalid image configuration: {error}") from None
    if not isinstance(document, dict):
        raise Invalid("invalid image configuration: not an object")
    rootfs = document.get("rootfs") or {}
    try:
        diff_ids = msgspec.convert(rootfs.get("diff_ids") or [], tuple[str, ...])
        record = ImageRecord(
            id="",
            config=config_from(document.get("config")),
            created=_text(document, "created") or NEVER,
            author=_text(document, "author"),
            comment=_text(document, "comment"),
            os=_text(document, "os") or "linux",
            architecture=_text(document, "architecture"),
            variant=_text(document, "variant"),
            docker_version=_text(document, "docker_version"),
            container=_text(document, "container"),
            history=tuple(_history(step) for step in document.get("history") or ()),
        )
    except (msgspec.ValidationError, AttributeError, TypeError) as error:
        raise Invalid(f"invalid image configuration: {error}") from None
    return record, diff_ids


_BASED = re.compile(r"FROM \S+")
_NOTHING = "/bin/sh -c #(nop) "


def as_built(image: ImageRecord, version: str) -> ImageRecord:
    """An image of the builder's as dockerd's classic builder would tell of it: nothing is empty that can be absent, no
    comment is another image's, and what a step of the builder's own says is in Docker's spelling."""
    config = image.config
    bare = {name: None for name in ("on_build", "volumes", "labels", "entrypoint") if not getattr(config, name)}
    steps = [_as_built(step) for step in image.history]
    return replace(image, comment="", docker_version=version, config=replace(config, **bare), history=tuple(steps))


def _as_built(step: History) -> History:
    """``/bin/sh -c #(nop) ENV A=b``, commented ``FROM busybox``."""
    if not _BASED.fullmatch(step.comment):
        return step
    told = step.created_by
    rest = told.removeprefix(_NOTHING)
    if rest != told and not rest.startswith((" ", "COPY ", "ADD ", "WORKDIR ")):
        told = f"{_NOTHING} {rest}"
    return replace(step, comment="", created_by=told)


def _text(document: dict[str, Any], key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""


def _history(step: dict[str, Any]) -> History:
    return History(
        created=_text(step, "created"),
        created_by=_text(step, "created_by"),
        author=_text(step, "author"),
        comment=_text(step, "comment"),
        empty=bool(step.get("empty_layer")),
    )


def write_config(image: ImageRecord) -> bytes:
    """The configuration blob of an image of our own making."""
    document: dict[str, Any] = {
        "architecture": image.architecture,
        "variant": image.variant,
        "author": image.author,
        "comment": image.comment,
        "config": config_document(image.config),
        "container": image.container,
        "created": image.created,
        "docker_version": image.docker_version,
        "history": [_history_document(step) for step in image.history],
        "os": image.os,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in image.layers]},
    }
    return msgspec.json.encode({key: value for key, value in document.items() if value != ""})


def _history_document(step: History) -> dict[str, Any]:
    document: dict[str, Any] = {
        "created": step.created,
        "created_by": step.created_by,
        "author": step.author,
        "comment": step.comment,
    }
    document = {key: value for key, value in document.items() if value}
    return {**document, "empty_layer": True} if step.empty else document


def write_manifest(image: ImageRecord, *, docker: bool = False) -> bytes:
    """An OCI manifest (or Docker's second schema) that names the image's blobs."""
    config, layer = (DOCKER_CONFIG, DOCKER_LAYER) if docker else (OCI_CONFIG, OCI_LAYER)
    mark = {"": "", "gzip": ".gzip" if docker else "+gzip", "zstd": "+zstd"}
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST if docker else OCI_MANIFEST,
        "config": {"mediaType": config, "digest": image.id, "size": image.config_size},
        "layers": [
            {"mediaType": layer + mark[blob.compression], "digest": blob.digest, "size": blob.size}
            for blob in image.layers
        ],
    }
    return msgspec.json.encode(document)


def write_index(entries: list[tuple[Blob, str]], saved: bool = False) -> bytes:
    """``index.json`` of a layout: manifests, each under a name, if any; ``saved``: as ``docker save`` spells it."""
    manifests: list[dict[str, Any]] = []
    for blob, name in entries:
        entry: dict[str, Any] = {"mediaType": OCI_MANIFEST, "digest": blob.digest, "size": blob.size}
        if name:
            ref = reference.parse(name) if saved else None
            entry["annotations"] = {FULL_NAME: ref.normal, REF_NAME: ref.tag} if ref else {REF_NAME: name}
        manifests.append(entry)
    return msgspec.json.encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests})


def read_manifest(blob: bytes) -> tuple[str, list[tuple[str, int, str]]]:
    """Config digest, and (digest, size, compression) of each layer, of an OCI or Docker manifest."""
    try:
        document = msgspec.json.decode(blob)
        layers = [
            (str(item["digest"]), int(item["size"]), _compression(str(item["mediaType"])))
            for item in document["layers"]
        ]
        return str(document["config"]["digest"]), layers
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise Invalid(f"invalid image manifest: {error}") from None


def _compression(media_type: str) -> str:
    return next((kind for kind in ("gzip", "zstd") if media_type.endswith(kind)), "")


class Step(msgspec.Struct, frozen=True):
    """A line of ``docker history``."""

    id: str
    created: str
    created_by: str
    comment: str
    size: int
    tags: tuple[str, ...]


def history(image: ImageRecord, parents: Iterable[ImageRecord] = ()) -> list[Step]:
    """Newest step first, each with the image it made as far as that is here: ``image``, its parent, and so on.

    The others are ``<missing>``, as in Docker."""
    layers = list(image.layers)
    told = list(image.history) or [History(created=image.created) for _ in layers]
    steps: list[Step] = []
    for step in told:
        size = 0 if step.empty or not layers else layers.pop(0).full_size
        steps.append(Step("<missing>", step.created or NEVER, step.created_by, step.comment, size, ()))
    steps.reverse()
    for number, made in zip(range(len(steps)), (image, *parents), strict=False):
        steps[number] = replace(steps[number], id=made.id, tags=made.tags)
    return steps

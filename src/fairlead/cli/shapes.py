"""What an inspected object is to Docker's client: structures of Go, with a name and a type for every member.

    {"Id": "4f0…", "State": {"Status": "running", …}}    --struct(…, "Container")-->
    {{.ID}}                  4f0…                         the name is Go's, not the API's
    {{.State}}               {running true false … <nil>} a structure: the values alone, in Go's order
    {{.State.Health}}        <nil>                        what the engine left out is there, and empty
    {{json .State}}          {"Status":"running", …}      JSON is as the engine sent it

``SHAPES`` writes a type in a line: ``Member:type``, and ``Member=Name:type`` where the API calls it otherwise. Types:
none (a text), ``int``, ``bool``, ``time``, ``[]`` (a list), ``{}`` (a map) and ``*`` (what may be missing), each before
the name of another type, and ``+`` for a structure whose members are its holder's, too.

A member that the engine sent and no line knows is left out here, as in Docker's client, which then fills the template
from the JSON itself (``inspecting``). Objects of a swarm have no shape here, but a list of what may be absent:
``sparse``. What a pointer points to is printed, where Go prints an address of memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import fairlead.core.template as template

SHAPES = """
Container: ContainerJSONBase:+ContainerJSONBase Mounts:[]MountPoint Config:*Config NetworkSettings:*NetworkSettings
  ImageManifestDescriptor:*any
ContainerJSONBase: ID=Id Created Path Args:[] State:*State Image ResolvConfPath HostnamePath HostsPath LogPath Name
  RestartCount:int Driver Platform MountLabel ProcessLabel AppArmorProfile ExecIDs:[] HostConfig:*HostConfig
  GraphDriver:GraphDriver SizeRw:*int SizeRootFs:*int
State: Status Running:bool Paused:bool Restarting:bool OOMKilled:bool Dead:bool Pid:int ExitCode:int Error StartedAt
  FinishedAt Health:*Health
Health: Status FailingStreak:int Log:[]HealthResult
HealthResult: Start:time End:time ExitCode:int Output
GraphDriver: Data:{} Name
MountPoint: Type Name Source Destination Driver Mode RW:bool Propagation
Config: Hostname Domainname User AttachStdin:bool AttachStdout:bool AttachStderr:bool ExposedPorts:{}any Tty:bool
  OpenStdin:bool StdinOnce:bool Env:[] Cmd:[] Healthcheck:*Healthcheck ArgsEscaped:bool Image Volumes:{}any WorkingDir
  Entrypoint:[] NetworkDisabled:bool MacAddress OnBuild:[] Labels:{} StopSignal StopTimeout:*int Shell:[]
Healthcheck: Test:[] Interval:duration Timeout:duration StartPeriod:duration StartInterval:duration Retries:int
NetworkSettings: NetworkSettingsBase:+NetworkSettingsBase DefaultNetworkSettings:+DefaultNetworkSettings
  Networks:{}*EndpointSettings
NetworkSettingsBase: Bridge SandboxID SandboxKey Ports:{}[]PortBinding HairpinMode:bool LinkLocalIPv6Address
  LinkLocalIPv6PrefixLen:int SecondaryIPAddresses:[]Address SecondaryIPv6Addresses:[]Address
DefaultNetworkSettings: EndpointID Gateway GlobalIPv6Address GlobalIPv6PrefixLen:int IPAddress IPPrefixLen:int
  IPv6Gateway MacAddress
Address: Addr PrefixLen:int
PortBinding: HostIP=HostIp HostPort
EndpointSettings: IPAMConfig:*EndpointIPAMConfig Links:[] Aliases:[] MacAddress DriverOpts:{} GwPriority:int NetworkID
  EndpointID Gateway IPAddress IPPrefixLen:int IPv6Gateway GlobalIPv6Address GlobalIPv6PrefixLen:int DNSNames:[]
EndpointIPAMConfig: IPv4Address IPv6Address LinkLocalIPs:[]
HostConfig: Binds:[] ContainerIDFile LogConfig:LogConfig NetworkMode PortBindings:{}[]PortBinding
  RestartPolicy:RestartPolicy AutoRemove:bool VolumeDriver VolumesFrom:[] ConsoleSize:[] Annotations:{} CapAdd:[]
  CapDrop:[] CgroupnsMode DNS=Dns:[] DNSOptions=DnsOptions:[] DNSSearch=DnsSearch:[] ExtraHosts:[] GroupAdd:[] IpcMode
  Cgroup Links:[] OomScoreAdj:int PidMode Privileged:bool PublishAllPorts:bool ReadonlyRootfs:bool SecurityOpt:[]
  StorageOpt:{} Tmpfs:{} UTSMode UsernsMode ShmSize:int Sysctls:{} Runtime Isolation Resources:+Resources
  Mounts:[]Mount MaskedPaths:[] ReadonlyPaths:[] Init:*bool
LogConfig: Type Config:{}
RestartPolicy: Name MaximumRetryCount:int
Resources: CPUShares=CpuShares:int Memory:int NanoCPUs=NanoCpus:int CgroupParent BlkioWeight:int
  BlkioWeightDevice:[]*any BlkioDeviceReadBps:[]*any BlkioDeviceWriteBps:[]*any BlkioDeviceReadIOps:[]*any
  BlkioDeviceWriteIOps:[]*any CPUPeriod=CpuPeriod:int CPUQuota=CpuQuota:int CPURealtimePeriod=CpuRealtimePeriod:int
  CPURealtimeRuntime=CpuRealtimeRuntime:int CpusetCpus CpusetMems Devices:[]Device DeviceCgroupRules:[]
  DeviceRequests:[]DeviceRequest KernelMemory:int KernelMemoryTCP:int MemoryReservation:int MemorySwap:int
  MemorySwappiness:*int OomKillDisable:*bool PidsLimit:*int Ulimits:[]*Ulimit CPUCount=CpuCount:int
  CPUPercent=CpuPercent:int IOMaximumIOps:int IOMaximumBandwidth:int
Device: PathOnHost PathInContainer CgroupPermissions
DeviceRequest: Driver Count:int DeviceIDs:[] Capabilities:[] Options:{}
Ulimit: Name Hard:int Soft:int
Mount: Type Source Target ReadOnly:bool Consistency BindOptions:*any VolumeOptions:*any ImageOptions:*any
  TmpfsOptions:*any ClusterOptions:*any
Network: Name ID=Id Created:time Scope Driver EnableIPv4:bool EnableIPv6:bool IPAM:IPAM Internal:bool Attachable:bool
  Ingress:bool ConfigFrom:ConfigReference ConfigOnly:bool Containers:{}EndpointResource Options:{} Labels:{}
  Peers:[]Peer Services:{}any
IPAM: Driver Options:{} Config:[]IPAMConfig
IPAMConfig: Subnet IPRange Gateway AuxAddress=AuxiliaryAddresses:{}
ConfigReference: Network
EndpointResource: Name EndpointID MacAddress IPv4Address IPv6Address
Peer: Name IP
Volume: ClusterVolume:*any CreatedAt Driver Labels:{} Mountpoint Name Options:{} Scope Status:{}any UsageData:*any
Image: ID=Id RepoTags:[] RepoDigests:[] Parent Comment Created Container ContainerConfig:*any DockerVersion Author
  Config:*ImageConfig Architecture Variant Os OsVersion Size:int VirtualSize:int GraphDriver:GraphDriver RootFS:RootFS
  Metadata:Metadata Descriptor:*any Manifests:[]any
ImageConfig: ImageSpecConfig:+ImageSpecConfig DockerImageSpecExt:+DockerImageSpecExt
ImageSpecConfig: User ExposedPorts:{}any Env:[] Entrypoint:[] Cmd:[] Volumes:{}any WorkingDir Labels:{} StopSignal
  ArgsEscaped:bool
DockerImageSpecExt: Healthcheck:*Healthcheck OnBuild:[] Shell:[]
RootFS: Type Layers:[]
Metadata: LastTagTime:time
"""


class Member(NamedTuple):
    name: str  # Go's
    key: str  # the API's
    kind: str


@cache
def shapes() -> dict[str, tuple[Member, ...]]:
    """Every type by its name."""
    found: dict[str, tuple[Member, ...]] = {}
    for block in re.split(r"\n(?=\w)", SHAPES.strip()):
        name, _, members = block.partition(":")
        found[name] = tuple(map(_member, members.split()))
    return found


def _member(word: str) -> Member:
    names, _, kind = word.partition(":")
    name, _, key = names.partition("=")
    return Member(name, key or name, kind)


class Struct(Mapping[str, Any]):
    """A structure: its members by Go's names; ``order``: those that are printed; ``sent``: what JSON it came from."""

    def __init__(self, members: Mapping[str, Any], order: tuple[str, ...], sent: Any) -> None:
        self._members, self._order, self.sent = members, order, sent

    def __getitem__(self, name: str) -> Any:
        return self._members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        raise TypeError("len of type struct")

    def __bool__(self) -> bool:
        return True

    def shown(self) -> str:
        return "{" + " ".join(template.inner(self[name]) for name in self._order) + "}"


class Ulimit(Struct):
    """The one structure that Go prints in words of its own."""

    def shown(self) -> str:
        return f"{self['Name']}={self['Soft']}:{self['Hard']}"


class Map(dict[str, Any]):
    """A map, and the JSON it came from; ``nothing``: what Go finds there under a key that it lacks."""

    sent: Any = None
    nothing: Any = ""


class List(list[Any]):
    """A list, and the JSON it came from."""

    sent: Any = None


class Nil:
    """A pointer to nothing."""

    sent = None

    def __bool__(self) -> bool:
        return False

    def shown(self) -> str:
        return "<nil>"


def struct(sent: Any, name: str) -> Struct:
    """JSON as the type of that name."""
    known = sent if isinstance(sent, Mapping) else {}
    members: dict[str, Any] = {}
    for member in shapes()[name]:
        if member.kind.startswith("+"):
            inner = struct(known, member.kind[1:])
            members |= {**inner, member.name: inner}
        else:
            members[member.name] = _typed(known.get(member.key), member.kind)
    kind = Ulimit if name == "Ulimit" else Struct
    return kind(members, tuple(member.name for member in shapes()[name]), sent)


def _typed(sent: Any, kind: str) -> Any:
    """A value of that type; what is null, or was not sent, is the type's own nothing."""
    if kind.startswith("*"):
        return Nil() if sent is None else _typed(sent, kind[1:])
    if kind.startswith("[]"):
        items = List(_typed(item, kind[2:]) for item in sent or ())
        items.sent = sent
        return items
    if kind.startswith("{}"):
        table = Map({key: _typed(item, kind[2:]) for key, item in (sent or {}).items()})
        table.sent, table.nothing = sent, _typed(None, kind[2:])
        return table
    return struct(sent, kind) if kind in shapes() else _plain(sent, kind)


def _plain(sent: Any, kind: str) -> Any:
    if kind == "any":
        return Struct({}, (), sent) if sent == {} else sent
    if kind == "time":
        return Time(sent or "0001-01-01T00:00:00Z")
    if kind == "duration":
        return Duration(sent or 0)
    return {"int": 0, "bool": False}.get(kind, "") if sent is None else sent


class Time(str):
    """A moment, as the API writes it; Go prints it with blanks."""

    def shown(self) -> str:
        day, _, rest = self.partition("T")
        match = re.fullmatch(r"([0-9:]+)(\.[0-9]+)?(Z|[+-][0-9:]+)", rest)
        if not match:
            return str(self)
        clock = match[1] + (match[2] or "").rstrip("0").rstrip(".")
        zone = "+0000 UTC" if match[3] == "Z" else f"{match[3].replace(':', '')} {match[3].replace(':', '')}"
        return f"{day} {clock} {zone}"


class Duration(int):
    """Nanoseconds; Go prints them as people say them: ``1m30s``."""

    def shown(self) -> str:
        if not self:
            return "0s"
        if self < 10**9:
            unit, name = next(one for one in ((10**6, "ms"), (10**3, "µs"), (1, "ns")) if self >= one[0])
            return f"{self / unit:.9f}".rstrip("0").rstrip(".") + name
        seconds, rest = divmod(int(self), 10**9)
        minutes, seconds = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        part = f".{rest:09d}".rstrip("0").rstrip(".")
        return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{seconds}{part}s"

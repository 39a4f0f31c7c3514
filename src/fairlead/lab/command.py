"""``fairlead lab``: many hosts on one machine, made in a second, broken and mended at will.

    lab up      a world is built, engines started, kept         lab partition, loss, delay, heal    the weather
    lab ls map ip env   what is there                           lab kill, reboot                    a power cut
    lab exec shell capture   go there                           lab down                            nothing is left

A lab is a folder (``LABS``/name) and its processes; every command finds both
again from the folder. What a command refuses, it has not begun.

What it does not do: speak Docker. ``eval "$(fairlead lab env one)"``, and any client does.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click
from msgspec.structs import replace

from fairlead.errors import FairleadError, Invalid, NotFound, Unavailable
from fairlead.lab import fleet, image, keyvalue, picture, topology, tour, weather
from fairlead.lab.machine import Machine
from fairlead.lab.topology import STORE
from fairlead.lab.world import BOOK, World

LABS = Path(os.environ.get("FAIRLEAD_LABS", "/var/lib/fairlead-labs"))
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@click.group("lab", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--name", default="lab", envvar="FAIRLEAD_LAB", show_default=True, help="Which lab, if there are several."
)
@click.pass_context
def lab(ctx: click.Context, name: str) -> None:
    """Many hosts on one machine. Nothing of the machine's own network is touched; `down` leaves nothing."""
    if not name or "/" in name or name.startswith("."):
        raise Invalid(f"{name!r} cannot be a lab's name: it is a folder below {LABS}")
    ctx.obj = LABS / name


@lab.command()
@click.option("--hosts", type=click.IntRange(1, 200), help="How many hosts, on one wire.  [default: 3]")
@click.option("--topology", "file", type=click.Path(path_type=Path), help="A TOML file that says who is on which wire.")
@click.option(
    "--option", "options", multiple=True, metavar="OPTION", help="Tell all engines, e.g. --option=--mtu=1400."
)
@click.option("--store", type=click.Choice(["none", *keyvalue.PORTS]), default="none", help="A store for a cluster.")
@click.option("--swarm", metavar="3m3w", help="So many managers and workers, one swarm already.")
@click.option("--no-engines", is_flag=True, help="Start no engine.")
@click.pass_obj
def up(
    folder: Path,
    hosts: int | None,
    file: Path | None,
    options: tuple[str, ...],
    store: str,
    swarm: str | None,
    no_engines: bool,
) -> None:
    """Build a lab, and start an engine on every host."""
    if folder.exists():
        end = f"end it with `{_typed(folder)} down`"
        raise Invalid(f"the lab {folder.name} is there already: look with `fairlead lab ls`, {end}")
    if sum(map(bool, (hosts, file, swarm))) > 1:
        raise Invalid("--hosts, --topology and --swarm all say which hosts there are: give one of them")
    if swarm and (no_engines or store != "none"):
        raise Invalid("--swarm needs engines, and no store: managers keep what a swarm knows")
    plan = fleet.read(swarm) if swarm else topology.read(file) if file else topology.one_cable(*_names(hosts or 3))
    if store != "none":
        keyvalue.program(store)  # missing? say so before anything is made
        plan = replace(plan, store=store)
    began = time.monotonic()
    with World(plan, folder=folder) as world:
        _say(f"{len(plan.nodes)} machines stand after {time.monotonic() - began:.1f} s")
        if plan.store:
            world.start_store()
            _say(f"{plan.store} serves after {time.monotonic() - began:.1f} s")
        if not no_engines:
            world.start_engines(plan.hosts, *options)
            engines = "1 engine answers" if len(plan.hosts) == 1 else f"{len(plan.hosts)} engines answer"
            _say(f"{engines} after {time.monotonic() - began:.1f} s")
            _give_image(world)
        if swarm:
            fleet.found(world)
            _say(f"they are one swarm after {time.monotonic() - began:.1f} s")
        world.keep()
    first = next(iter(plan.hosts))
    _say(f'Go on with: eval "$({_typed(folder)} env {first})"   {_typed(folder)} map   {_typed(folder)} down')


def _give_image(world: World) -> None:
    """There is something to run on every host, without a registry."""
    try:
        image.give(world.hosts, world.folder)
        _say(f"each has the image {image.NAME}, with a page in /www")
    except Unavailable as without:
        _say(f"No image for them: {without}")


def _names(count: int) -> list[str]:
    return [NUMBERS[number] if number < len(NUMBERS) else f"n{number + 1}" for number in range(count)]


@lab.command("ls")
def list_() -> None:
    """The labs of this machine."""
    rows = [("NAME", "HOSTS", "RUNNING", "FOLDER")]
    for book in sorted(LABS.glob(f"*/{BOOK}")):
        world = World.found(book.parent)
        running = sum(machine.alive for machine in world.hosts)
        rows.append((book.parent.name, str(len(world.hosts)), str(running), str(book.parent)))
    for half in sorted(LABS.glob("*/")):
        if not (half / BOOK).exists():
            rows.append((half.name, "?", "unfinished", str(half)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@lab.command()
@click.argument("host")
@click.pass_obj
def env(folder: Path, host: str) -> None:
    """Print what points a client at a host's engine, for `eval`."""
    click.echo(f"export DOCKER_HOST=unix://{_running(_open(folder), host).door}")
    click.echo(f'# Run this command to configure your shell: eval "$({_typed(folder)} env {host})"')


@lab.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("host")
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND...")
@click.pass_obj
def exec(folder: Path, host: str, words: tuple[str, ...]) -> NoReturn:
    """Type a command on a host."""
    _become(_running(_open(folder), host), *words)


@lab.command()
@click.argument("host")
@click.pass_obj
def shell(folder: Path, host: str) -> NoReturn:
    """A shell on a host."""
    _become(_running(_open(folder), host), shutil.which("bash") or "sh")


@lab.command()
@click.argument("host", required=False)
@click.pass_obj
def ip(folder: Path, host: str | None) -> None:
    """The address of a host, or of all machines."""
    world = _open(folder)
    if host:
        click.echo(world[host].address4 or world[host].address6)
        return
    for name in world.topology.nodes:
        click.echo(f"{name:<14} {world[name].address4:<16} {world[name].address6}".rstrip())


@lab.command("map")
@click.pass_obj
def map_(folder: Path) -> None:
    """A picture: wires, machines, weather, and the containers on each host."""
    world = _open(folder)
    states = {machine.name: picture.state(machine) for machine in world.hosts}
    click.echo(picture.draw(world.topology, weather.outlook(world), states))


@lab.command()
@click.argument("left")
@click.argument("right")
@click.pass_obj
def partition(folder: Path, left: str, right: str) -> None:
    """Let two hosts no longer hear each other (or two groups: one,two three,four)."""
    world = _open(folder)
    weather.change(world, weather.outlook(world).parted(left, right))


@lab.command()
@click.argument("host")
@click.argument("percent", type=click.FloatRange(0, 100))
@click.pass_obj
def loss(folder: Path, host: str, percent: float) -> None:
    """Drop a share of the packets to and from a host, at random; 0 ends it."""
    _turn(folder, "loss", host, round(percent * 10))


@lab.command()
@click.argument("host")
@click.argument("milliseconds", type=click.IntRange(0, 60000))
@click.pass_obj
def delay(folder: Path, host: str, milliseconds: int) -> None:
    """Let packets to a host wait; 0 ends it."""
    _turn(folder, "delay", host, milliseconds)


@lab.command()
@click.pass_obj
def heal(folder: Path) -> None:
    """End all partitions, losses and delays."""
    weather.change(_open(folder), weather.Weather())


@lab.command()
@click.argument("host")
@click.option("--engine", is_flag=True, help="Only the engine; its containers go on.")
@click.pass_obj
def kill(folder: Path, host: str, engine: bool) -> None:
    """A power cut: every process of a host ends at once. Its disk stays."""
    machine = _running(_open(folder), host)
    if engine:
        machine.stop_daemon(signal.SIGKILL)
    else:
        machine.down()


@lab.command()
@click.argument("host")
@click.option("--engine", is_flag=True, help="Only the engine; its containers go on.")
@click.pass_obj
def reboot(folder: Path, host: str, engine: bool) -> None:
    """Switch a host off and on again (or on, after kill), and start its engine."""
    world = _open(folder)
    if engine:
        _running(world, host).stop_daemon()
    else:
        world.reboot(host)
        weather.again(world, host)
    if host == STORE:
        world.start_store()
    if host in world.topology.hosts:
        world.start_engines([host], *world.options)
    world.keep()


@lab.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("host")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[FILTER]...")
@click.pass_obj
def capture(folder: Path, host: str, words: tuple[str, ...]) -> NoReturn:
    """Show the packets on a host's first wire (tcpdump; its options and filters go on the line)."""
    if not shutil.which("tcpdump"):
        raise Unavailable("tcpdump is missing: apt-get install tcpdump")
    _become(_running(_open(folder), host), "tcpdump", "-lni", "eth0", *words)


@lab.command("tour")
@click.option("--no-wait", is_flag=True, help="Do not wait for Enter between steps.")
@click.option("--store", type=click.Choice(["none", *keyvalue.PORTS]), help="A store for the cluster.  [default: etcd]")
def tour_(no_wait: bool, store: str | None) -> None:
    """Walk through the labs of Docker networking, step by step, on three hosts that are gone afterwards."""
    if not (no_wait or sys.stdin.isatty()):
        raise Invalid("the tour waits for Enter between steps, and here is no terminal to type it on: say --no-wait")
    etcd = _there("etcd")
    if store is None and not etcd:
        _say("The tour keeps to one host: etcd is missing (scripts/setup brings it)")
    elif store not in (None, "none"):
        keyvalue.program(store)
    chosen = store or ("etcd" if etcd else "none")
    plan = topology.one_cable("one", "two", "three", store="" if chosen == "none" else chosen)
    pause = _no_pause if no_wait else _pause
    chapters = tour.chapters(bool(plan.store), etcd)
    before, all_ = 0, sum(map(len, chapters))
    for steps, hosts in zip(chapters, (plan, topology.one_cable(*plan.hosts)), strict=False):
        with World(hosts) as world:
            if hosts.store:
                world.start_store()
            world.start_engines(hosts.hosts)
            _say("Three hosts stand, each with an engine; what follows is typed on them. Enter goes on, ^C ends it.")
            tour.walk(world, steps, click.echo, pause, before, all_)
            before += len(steps)


def _there(store: str) -> bool:
    try:
        return bool(keyvalue.program(store))
    except FairleadError:
        return False


def _pause() -> None:
    click.prompt("", "", prompt_suffix="", show_default=False)


def _no_pause() -> None:
    """For those who only want to see."""


@lab.command()
@click.pass_obj
def down(folder: Path) -> None:
    """End the lab; nothing of it is left."""
    half_made = folder.is_dir() and not (folder / BOOK).exists()
    (World.cut_short(folder) if half_made else _open(folder)).down()


def _open(folder: Path) -> World:
    if not (folder / BOOK).exists():
        if folder.is_dir():
            raise Unavailable(f"the lab {folder.name} is unfinished: if nobody makes it now, `{_typed(folder)} down`")
        raise NotFound(f"there is no lab {folder.name}: make one with `{_typed(folder)} up`")
    return World.found(folder)


def _running(world: World, name: str) -> Machine:
    machine = world[name]
    if not machine.alive:
        raise Unavailable(f"{name} is switched off: `{_typed(world.folder)} reboot {name}` switches it on")
    return machine


def _become(machine: Machine, *words: str) -> NoReturn:
    """Replace this process by a command on that machine: its terminal, signals and exit code are ours."""
    sys.stdout.flush()
    argv = machine.enter(*words)
    os.execvpe(argv[0], argv, machine.environment())


def _turn(folder: Path, kind: str, host: str, value: int) -> None:
    """Change one host's loss or delay; the rest of the weather stays."""
    world = _open(folder)
    sky = weather.outlook(world)
    after = {name: each for name, each in {**getattr(sky, kind), host: value}.items() if each}
    weather.change(world, replace(sky, **{kind: after}))


def _typed(folder: Path) -> str:
    """How this lab is addressed on the command line."""
    return "fairlead lab" if folder.name == "lab" else f"fairlead lab --name {folder.name}"


def _say(text: str) -> None:
    click.echo(text, err=True)


def main(words: Sequence[str]) -> int:
    """Run one command line; returns the exit code (125: it makes no sense, 1: it failed)."""
    try:
        lab.main(list(words), prog_name="fairlead lab", standalone_mode=False)
        return 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as problem:
        problem.show()
        return 125
    except (click.Abort, KeyboardInterrupt):
        return 130
    except (FairleadError, subprocess.SubprocessError, OSError) as problem:
        print(f"fairlead lab: {problem}", file=sys.stderr)
        return 1

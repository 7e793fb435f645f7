"""The mark of a run's owner, with a heartbeat: all nodes see it, also where a network disk has no locks for them."""

import json
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["Owner", "Taken", "beats_elsewhere"]

FILE = ".owner"
BEAT = 5.0  # s between two heartbeats
SILENT = 20.0  # s without one, after which an owner is gone
LOOK = 0.5  # s between two looks at another's heart
LONGEST = 4096  # characters of a mark
SETTLE = 1.0  # s in which two that take the place of one that is gone see each other
BOOT = Path("/proc/sys/kernel/random/boot_id")  # another one on each machine, and after each start of it


class Taken(Exception):
    """Another process owns the folder; its text names it."""


class Owner:
    """The mark of this process in a run's folder."""

    def __init__(self, folder: Path):
        self.path, self.text = folder / FILE, ""
        self.end = threading.Event()

    def take(self) -> None:
        """Write the mark, and keep its heart beating. The system's lock keeps out others of this machine.

        Raises Taken if a process of another machine is the owner; one whose heart has just beaten is watched for as
        long as it may have ended since.
        """
        before = _wait_until_silent(self.path)
        facts = {"process": os.getpid(), "host": socket.gethostname(), "boot": boot(), "since": time.strftime("%F %T")}
        text = json.dumps(facts)
        with suppress(FileNotFoundError):
            self.path.unlink()
        try:
            with open(self.path, "x") as file:
                file.write(text)
        except FileExistsError as error:
            raise Taken(told(_look(self.path)[0])) from error
        self.text = text
        if before is not None and before.get("boot") != boot():
            time.sleep(SETTLE)
            if other := self.other():
                self.text = ""
                raise Taken(other)
        self.end = threading.Event()
        threading.Thread(target=_beat, args=(self.path, self.text, self.end), name="heartbeat", daemon=True).start()

    def other(self) -> str:
        """Return the process that has put its mark in the place of this one's; empty if none has."""
        try:
            facts, _ = _look(self.path)
        except OSError:  # removed, or the disk is away
            return ""
        return told(facts) if self.text and json.dumps(facts) != self.text else ""

    def release(self) -> None:
        """Remove the mark, if it is this process's own."""
        self.end.set()
        with suppress(OSError):
            if self.text and not self.other():
                self.path.unlink()
        self.text = ""


def beats_elsewhere(folder: Path) -> bool:
    """Return whether a process of another machine owns the folder, as far as its last heartbeat tells."""
    try:
        facts, beat = _look(folder / FILE)
    except OSError:
        return False
    return facts.get("boot") != boot() and time.time() - beat < SILENT


def boot() -> str:
    """Return what names this machine since its last start."""
    with suppress(OSError):
        return BOOT.read_text().strip()
    return socket.gethostname()


def told(facts: dict[str, Any]) -> str:
    """Return an owner in words."""
    return f"process {facts.get('process', '?')} on {facts.get('host', 'another machine')}"


def _wait_until_silent(path: Path) -> dict[str, Any] | None:
    """Return the mark of an owner that is gone, None if there is none. Raises Taken once the heart of one beats."""
    try:
        first = _look(path)
        if first[0].get("boot") == boot():
            return first[0]
        while _now(path.parent) - first[1] < SILENT:
            time.sleep(LOOK)
            if (now := _look(path)) != first:
                raise Taken(told(now[0]))
        return first[0]
    except FileNotFoundError:  # never there, or released
        return None


def _look(path: Path) -> tuple[dict[str, Any], float]:
    """Return the mark and the time of its last heartbeat.

    It is opened, as a network disk remembers what was only asked; and not waited for, as it may be a pipe.
    """
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), errors="replace") as file:
        beat = os.fstat(file.fileno()).st_mtime
        text = file.read(LONGEST)
    try:
        facts = json.loads(text)
    except ValueError:
        facts = {}
    return facts if isinstance(facts, dict) else {}, beat


def _now(folder: Path) -> float:
    """Return the time by the clock of the disk, which may lie on another machine."""
    probe = folder / f"{FILE}-{os.getpid()}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _beat(path: Path, text: str, end: threading.Event) -> None:
    """Renew the time of the mark until the end, or until it is another's."""
    while not end.wait(BEAT):
        with suppress(OSError):  # the disk may be away for a while
            if json.dumps(_look(path)[0]) != text:
                return
            os.utime(path)

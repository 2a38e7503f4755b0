"""What a test has started, also indirectly: finds it, and finds out what is left of it. Linux only: reads /proc."""

import ctypes
import os
import signal
import time

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans():
    """From now on a process whose parent ends becomes a child of this one, so that it stays among the descendants."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _read(path):
    with open(path, "rb") as file:
        return file.read()


def descendants():
    """{pid: (parent, state, command line)} of everything that this process has started, also indirectly."""
    every = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            stat = _read("/proc/%s/stat" % name).decode().rpartition(")")[2].split()
            words = _read("/proc/%s/cmdline" % name).decode("utf-8", "replace").replace("\0", " ").strip()
        except OSError:  # it has ended meanwhile
            continue
        every[int(name)] = (int(stat[1]), stat[0], words)
    found, frontier = {}, [os.getpid()]
    while frontier:
        parent = frontier.pop()
        for pid, entry in every.items():
            if entry[0] == parent:
                found[pid] = entry
                frontier.append(pid)
    return found


def rank_pids(program):
    """{rank: pid} of the ranks of `program` that mpirun has started."""
    ranks = {}
    for pid in descendants():
        try:
            if os.path.realpath("/proc/%d/exe" % pid) != os.path.realpath(program):
                continue
            variables = _read("/proc/%d/environ" % pid).split(b"\0")
        except OSError:
            continue
        for variable in variables:
            if variable.startswith(b"OMPI_COMM_WORLD_RANK="):
                ranks[int(variable.partition(b"=")[2])] = pid
    return ranks


def _reap():
    """Takes the orphans that have ended; subprocess waits for its own children."""
    for pid, (parent, state, _) in descendants().items():
        if parent == os.getpid() and state == "Z":
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass


def leftovers(seconds=5):
    """Descendants that are still there after so long, when every Job has ended; they are then killed."""
    end = time.monotonic() + seconds
    _reap()
    left = descendants()
    while left and time.monotonic() < end:
        time.sleep(0.02)
        _reap()
        left = descendants()
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return ["pid %d (%s) %s" % (pid, state, words) for pid, (_, state, words) in left.items()]

# SPDX-License-Identifier: Apache-2.0
"""A fork server: jobs start as forks of a process that has torch loaded, since loading it takes seconds.

A run of Snakemake on one machine starts a server (``onstart`` in the Snakefile) and names it to its jobs in the
environment. ``dcae`` then hands over its arguments, environment, folder and standard streams, and waits. The fork
joins the process group of the waiting command, gets its signals, ends if it ends, and passes on its exit status. The
server ends with the run.

By hand, on a cluster, with a GPU, after an edit of the code, or without a reachable server, ``dcae`` runs in its own
process, with the same results.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import TextIO

from dcae import OWN_PACKAGES

ADDRESS = "DCAE_FORK_SERVER"
"""Environment variable of jobs: path of the server's socket."""

HANDED_OVER = ("train", "encode", "captions", "reference", "evaluate", "generate", "profile")
"""Sub-commands that load torch."""

LIBRARIES = (
    "workflow.cli",
    "dcae.autoencoders.loading",
    "dcae.data.loading",
    "dcae.diffusion.captions.encode",
    "dcae.diffusion.captions.t5",
    "dcae.diffusion.latents.encode",
    "dcae.diffusion.models.checkpoint",
    "dcae.training.autoencoder",
    "dcae.training.denoiser",
    "evaluation.efficiency.repeats",
    "evaluation.features.reference",
    "evaluation.quality.generation",
    "evaluation.quality.reconstruction",
)
"""Modules of these commands, which a server loads."""

GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA, AMD, Windows' subsystem for Linux
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # read when libraries are loaded
SECONDS_TO_SEND = 10
SECONDS_TO_SAVE = 30  # of a job whose server was killed; as torchrun and Slurm give it
PREFIX = "dcae-"  # of the folder of a server's socket
NUMBER = struct.Struct("!i")  # on the wire: a length, a process, an exit status


# --- The run that starts a server -------------------------------------------------------------------------------------


def start() -> subprocess.Popen | None:
    """Start a server for the jobs of this process, name it in the environment, and let it end with this process.

    No server is started with a GPU, which a fork cannot use once it was touched, nor where no socket can be made; the
    latter is reported on stderr.
    """
    if any(Path(device).exists() for device in GPUS):
        return None
    _remove_sockets_of_the_dead()
    path = Path(tempfile.mkdtemp(prefix=PREFIX)) / "socket"  # in a folder that is this user's alone
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(str(path))
        except OSError as error:
            print(f"each job loads torch by itself, since there can be no socket at {path}: {error}", file=sys.stderr)
            path.parent.rmdir()
            return None
        listener.listen()
        server = subprocess.Popen(
            [sys.executable, "-P", "-m", "workflow.fork_server", str(listener.fileno())],
            pass_fds=[listener.fileno()],
            stdin=subprocess.PIPE,  # nothing is written: its end tells the server that this process has ended
            env={**os.environ, **dict.fromkeys(THREADS, "1")},
        )
    os.environ[ADDRESS] = str(path)
    return server


def _remove_sockets_of_the_dead() -> None:
    """Remove the sockets that killed servers of this user left; one that is new may not listen yet."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/socket"):
        if path.stat().st_mtime > time.time() - 60:
            continue
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(path))
            except ConnectionRefusedError:  # nobody listens
                path.unlink()
                path.parent.rmdir()


# --- The command that hands its job over ------------------------------------------------------------------------------


def hand_over(arguments: Sequence[str]) -> int | None:
    """Let the server run a command and wait for it.

    Returns:
        Its exit status, or the negative number of the signal that ended it; ``None`` if the command runs in its own
        process: without a server, for other commands, or without a number of threads.
    """
    address = os.environ.get(ADDRESS)
    if not address or arguments[:1] not in [[each] for each in HANDED_OVER] or not _threads(os.environ):
        return None
    request = {
        "arguments": list(arguments),
        "environment": {name: value for name, value in os.environ.items() if name != ADDRESS},
        "folder": os.getcwd(),
        "process_group": os.getpgrp(),
        "session": os.getsid(0),
    }
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(address)
            content = json.dumps(request).encode()
            socket.send_fds(connection, [NUMBER.pack(len(content))], [0, 1, 2])
            connection.sendall(content)
            job = _receive(connection)
        except OSError:
            return None
        if job is None:
            return None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda received, _frame: _kill(job, received))
        status = _receive(connection)
    if status is None:
        _end(job)
        print(f"error: the fork server ended before its job, process {job}", file=sys.stderr)
        return 1
    return status


def _threads(environment: Mapping[str, str]) -> int:
    """Return the number of threads that a job was given; 0 if that is not one number."""
    given = environment.get(THREADS[0], "")
    return int(given) if given.isdecimal() else 0


def end_as(status: int) -> None:
    """End this process with an exit status, or by the signal whose negative number it is."""
    if status < 0:
        with contextlib.suppress(OSError):  # SIGKILL has no handler
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


def _receive(connection: socket.socket) -> int | None:
    """Return the next number; ``None`` if the other side has closed."""
    content = connection.recv(NUMBER.size, socket.MSG_WAITALL)
    return NUMBER.unpack(content)[0] if len(content) == NUMBER.size else None


def _kill(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def _end(process: int) -> None:
    """Let a process save and end, and kill it if it does not."""
    deadline = time.monotonic() + SECONDS_TO_SAVE
    _kill(process, signal.SIGTERM)
    while Path(f"/proc/{process}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    _kill(process, signal.SIGKILL)


# --- The server -------------------------------------------------------------------------------------------------------


@functools.cache
def load_libraries() -> dict[str, float]:
    """Import the modules of jobs, once. Return the state of the project's sources at that time."""
    for name in LIBRARIES:
        importlib.import_module(name)
    return _sources()


def _sources() -> dict[str, float]:
    """Return file and time of change of the project's loaded modules."""
    own = [module for name, module in sys.modules.items() if name.split(".")[0] in OWN_PACKAGES]
    files = [module.__file__ for module in own if module.__file__]
    return {file: os.stat(file).st_mtime if os.path.exists(file) else 0.0 for file in files}


def serve(listener: socket.socket) -> None:
    """Fork a process for each request, and pass its exit status to the waiting command.

    Returns when the process that started this server has ended, which closes standard input, and no job is left.
    """
    jobs: dict[socket.socket, ForkProcess] = {}  # by the connection to the command that waits
    sources: list[socket.socket | TextIO] = [listener, sys.stdin]
    while sources or jobs:
        ready = wait([*sources, *jobs, *(job.sentinel for job in jobs.values())])
        for waiting, job in list(jobs.items()):
            if job.sentinel in ready:
                job.join()
                with contextlib.suppress(OSError):  # whoever waited was killed
                    waiting.sendall(NUMBER.pack(job.exitcode))
            elif waiting in ready:  # it was killed, so its job is
                job.kill()
                job.join()
            else:
                continue
            waiting.close()
            del jobs[waiting]
        if sys.stdin in ready:
            sources = []
        elif listener in ready:
            jobs |= _fork(listener, list(jobs))


def _fork(listener: socket.socket, others: list[socket.socket]) -> dict[socket.socket, ForkProcess]:
    """Return the requested job by its connection; nothing if the command has to run in its own process."""
    waiting, _ = listener.accept()
    if load_libraries() != _sources():  # records would name sources that did not run
        waiting.close()
        return {}
    waiting.settimeout(SECONDS_TO_SEND)
    streams: list[int] = []
    try:
        length, streams, _, _ = socket.recv_fds(waiting, NUMBER.size, 3)
        request = json.loads(_receive_all(waiting, NUMBER.unpack(length)[0]))
        # torchrun's processes have a session of their own, whose groups nothing here can join.
        served = request["session"] == os.getsid(0)
    except (OSError, struct.error, ValueError):  # killed before it had asked
        served = False
    if not served:
        waiting.close()
        for stream in streams:
            os.close(stream)
        return {}
    job = ForkProcess(target=_run, args=(request, streams, [listener, waiting, *others]))
    job.start()
    for stream in streams:
        os.close(stream)
    with contextlib.suppress(OSError):  # killed since then, which the next look tells
        waiting.sendall(NUMBER.pack(job.pid))
    return {waiting: job}


def _receive_all(connection: socket.socket, length: int) -> bytes:
    """Return a message; with a time limit, one ``recv`` returns what is there. Raises ``OSError`` if it ends early."""
    content = bytearray()
    while len(content) < length:
        part = connection.recv(length - len(content))
        if not part:
            raise ConnectionError("closed before the message was whole")
        content += part
    return bytes(content)


def _run(request: dict, streams: list[int], of_the_server: list[socket.socket]) -> None:
    """Run the command that asked, with its streams, process group, folder, environment and arguments."""
    for each in of_the_server:
        each.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    # The server's own stdout may be a file, which can be sought; a job's is a pipe, which cannot.
    sys.stdout = os.fdopen(1, "w", buffering=1, encoding=sys.stdout.encoding, closefd=False)
    os.setpgid(0, request["process_group"])
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[1:] = request["arguments"]
    if request["arguments"][0] != "profile":  # which forks before it sets them: with torch's threads it could not
        sys.modules["torch"].set_num_threads(_threads(os.environ))  # the server has loaded it with one
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    from workflow import cli

    cli.main()


def main() -> None:
    """Serve until the process that started this one has ended."""
    # A terminal, timeout or systemd sends them to the whole group, so that jobs save; the server ends with its run.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.stdout.reconfigure(errors="backslashreplace")  # of forks, as in workflow/__main__.py
    with socket.socket(fileno=int(sys.argv[1])) as listener:
        path = Path(listener.getsockname())
        try:
            serve(listener)
        finally:
            path.unlink()
            path.parent.rmdir()


if __name__ == "__main__":
    main()

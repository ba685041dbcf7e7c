# SPDX-License-Identifier: Apache-2.0
"""A real Slurm on one machine: two virtual nodes with two fake GPUs each, for as long as a command runs.

    sudo python3 tests/slurm/local_slurm.py snakemake --cores all --profile slurm

The GPUs are device files that no driver knows, so that Slurm hands them out and accounts for them while every program
computes on the CPU. Needs root and Debian's ``slurm-wlm slurmctld slurmd munge``. Snakemake's Slurm plugin removes
``SLURM_CONF`` from a job's environment, so the configuration has to be where Slurm looks by itself, ``/etc/slurm``;
a machine that has one there is left alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SLURM_CONFIG = Path("/etc/slurm/slurm.conf")
GRES_CONFIG = Path("/etc/slurm/gres.conf")
MARK = "# Written by tests/slurm/local_slurm.py, which removes it again.\n"
LOCK = Path("/run/lock/dcae-local-slurm")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "sinfo", "scontrol")
NODES = ("n1", "n2")
GPUS_PER_NODE = 2

# linuxproc and task/none: no cgroups needed. CR_Core: several jobs share a node. squeue forgets a job after MinJobAge
# seconds. config_overrides: nodes may claim more cores and memory than this machine has, as the profile asks for them.
SLURM_TEMPLATE = (
    MARK
    + """\
ClusterName=dcae-test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
AuthType=auth/munge
SlurmUser=root
SlurmdUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MinJobAge=7200
SchedulerParameters=batch_sched_delay=0
SlurmdParameters=config_overrides
GresTypes=gpu
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
NodeName=n[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[17001-17002] CPUs=64 RealMemory=512000 Gres=gpu:2
PartitionName=test Nodes=n[1-2] Default=YES MaxTime=INFINITE
"""
)
# File= has to name device files; without it a node never becomes usable.
GRES_TEXT = MARK + "NodeName=n[1-2] Name=gpu File=/dev/null,/dev/zero\n"


class SlurmError(RuntimeError):
    """The local Slurm cannot be started; the message says why and what to do."""


def _run(*command: str, timeout: float = 30) -> str:
    """Output of a command; ``SlurmError`` with its error output if it fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{' '.join(command)} did not end within {timeout} s") from None
    if done.returncode:
        raise SlurmError(
            f"{' '.join(command)} failed ({done.returncode}): {done.stderr.strip() or done.stdout.strip()}"
        )
    return done.stdout


def _wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SlurmError(f"waited {seconds:g} s in vain until {what}")
        time.sleep(0.2)


def _check_machine() -> None:
    if os.geteuid() != 0:
        raise SlurmError("a local Slurm needs root: it writes /etc/slurm and starts daemons")
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing:
        raise SlurmError(f"no {', '.join(missing)} here: apt-get install slurm-wlm slurmctld slurmd munge")
    for path in (SLURM_CONFIG, GRES_CONFIG):
        if path.exists() and not path.read_text().startswith(MARK):
            raise SlurmError(f"{path} is another Slurm's configuration; it is left alone, and no test Slurm started")


def _munge_answers() -> bool:
    """Whether a munged runs that can make and read a credential."""
    command = "(munge --no-input | unmunge) >/dev/null 2>&1"
    return subprocess.run(command, shell=True, timeout=30, check=False).returncode == 0


def _start_munge(folder: Path) -> None:
    """Start munged as user munge, unless one answers already."""
    if _munge_answers():
        return
    for path in (Path("/run/munge"), folder / "munge"):
        path.mkdir(exist_ok=True)
        shutil.chown(path, "munge", "munge")
    options = ["--force", f"--pid-file={folder}/munge/munged.pid", f"--log-file={folder}/munge/munged.log"]
    _run("setpriv", "--reuid=munge", "--regid=munge", "--clear-groups", "munged", *options)
    _wait_until(_munge_answers, 20, "munged answers")


def _node_states() -> list[str]:
    with contextlib.suppress(SlurmError):
        return _run("sinfo", "--Node", "--noheader", "--format=%T", timeout=10).split()
    return []


def _start_slurm(folder: Path) -> None:
    (folder / "state").mkdir()
    for node in NODES:
        (folder / f"spool-{node}").mkdir()
    SLURM_CONFIG.parent.mkdir(exist_ok=True)
    SLURM_CONFIG.write_text(SLURM_TEMPLATE.format(host=socket.gethostname(), folder=folder))
    GRES_CONFIG.write_text(GRES_TEXT)
    _run("slurmctld")
    for node in NODES:
        _run("slurmd", "-N", node)
    _wait_until(lambda: _node_states() == ["idle"] * len(NODES), 60, "sinfo calls both nodes idle")


def _cancel_jobs() -> None:
    """End what still runs: a job outlives the daemon that started it."""
    with contextlib.suppress(SlurmError):
        _run("scancel", "--user=root", timeout=10)
        _wait_until(
            lambda: not _run("squeue", "--noheader", "--states=PD,R,CG", timeout=10).strip(), 20, "no job is left"
        )


def _stop_daemon(pid_file: Path) -> None:
    """End the daemon that wrote this file: by SIGTERM, after ten seconds by SIGKILL."""
    name = pid_file.stem.split("-")[0]
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        process = int(pid_file.read_text())
        if Path(f"/proc/{process}/comm").read_text().strip() != name:
            return  # the daemon is gone, its number belongs to another program now
        os.kill(process, signal.SIGTERM)
        for _ in range(50):
            time.sleep(0.2)
            os.kill(process, 0)
        os.kill(process, signal.SIGKILL)


def _stop(folder: Path) -> None:
    """Stop the daemons whose pid files are in this folder, and remove it and the configuration."""
    if (folder / "slurmctld.pid").exists():
        _cancel_jobs()
    for pattern in ("slurmd-*.pid", "slurmctld.pid", "munge/munged.pid"):
        for pid_file in folder.glob(pattern):
            _stop_daemon(pid_file)
    for path in (SLURM_CONFIG, GRES_CONFIG):
        path.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _stop_leftover() -> None:
    """Clear away what a killed run of this module left; that no other one runs, the lock says."""
    if SLURM_CONFIG.exists():
        settings = dict(line.split("=", 1) for line in SLURM_CONFIG.read_text().splitlines() if "=" in line)
        _stop(Path(settings["StateSaveLocation"]).parent)


def _show_logs(folder: Path) -> None:
    for log in sorted(folder.glob("**/*.log")):
        print(f"--- {log}\n{log.read_text(errors='replace')[-3000:]}", file=sys.stderr)


@contextlib.contextmanager
def local_slurm() -> Iterator[Path]:
    """Slurm runs within this context; gives the folder of its logs.

    Raises:
        SlurmError: no root, packages missing, another Slurm's configuration, or a daemon that does not come up
            (their logs are printed then).
    """
    _check_machine()
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SlurmError("another local Slurm runs on this machine; wait until it has ended") from None
        _stop_leftover()
        folder = Path(tempfile.mkdtemp(prefix="local-slurm-"))
        folder.chmod(0o755)  # munged runs as another user
        try:
            try:
                _start_munge(folder)
                _start_slurm(folder)
            except SlurmError:
                _show_logs(folder)
                raise
            yield folder
        finally:
            _stop(folder)


def jobs() -> list[dict[str, str]]:
    """Every job that Slurm remembers, as the fields of ``scontrol show job``; running and finished ones."""
    lines = _run("scontrol", "show", "job", "--details", "--oneliner").splitlines()
    return [dict(field.split("=", 1) for field in line.split() if "=" in field) for line in lines if "JobId=" in line]


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} COMMAND [ARGUMENT ...]")
    try:
        with local_slurm():
            sys.exit(subprocess.run(sys.argv[1:], check=False).returncode)
    except SlurmError as error:
        sys.exit(f"local Slurm: {error}")

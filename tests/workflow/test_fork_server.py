# SPDX-License-Identifier: Apache-2.0
"""Commands that a fork server runs are like commands that run by themselves: output, status, results, signals."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dcae.training.stopping import EXIT_UNFINISHED
from tests.workflow.conftest import TINY, Clone, copy_repository
from workflow import fork_server
from workflow.fork_server import ADDRESS, hand_over

DCAE = (sys.executable, "-m", "workflow")
WRONG = ("train", "autoencoder", "config/nothing.yaml", "--autoencoder", "a", "--phase", "b", "--output", "c")
PHASE = "low-resolution-full"
STARTER = (
    "import sys, time; from workflow import fork_server; server = fork_server.start(); "
    "print(fork_server.os.environ[fork_server.ADDRESS], server.pid, flush=True); sys.stdin.read()"
)


class Server:
    """A server and the process that started it, both of which a test may kill."""

    def __init__(self, clone: Clone):
        self.clone = clone
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, "-c", STARTER]
        self.starter = subprocess.Popen(command, cwd=clone.folder, env=clone.environment, **pipes)
        address, process = self.starter.stdout.readline().split()
        self.address, self.process = Path(address), int(process)
        self.tasks = Path(f"/proc/{process}/task")

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
        return self.clone.run(*DCAE, *arguments, check=False, **{ADDRESS: str(self.address), **variables})

    def start(self, *arguments: str, **options) -> subprocess.Popen:
        return subprocess.Popen(
            [*DCAE, *arguments],
            cwd=self.clone.folder,
            env={**self.clone.environment, ADDRESS: str(self.address)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )

    def jobs(self) -> list[int]:
        return [int(each) for each in (self.tasks / str(self.process) / "children").read_text().split()]

    def end(self) -> None:
        self.starter.stdin.close()
        self.starter.wait(timeout=30)
        wait_until(lambda: not alive(self.process))
        shutil.rmtree(self.address.parent, ignore_errors=True)  # a killed one leaves it


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[Server]:
    server = Server(copy_repository(tmp_path_factory.mktemp("fork-server") / "clone"))
    yield server
    server.end()


def training(folder: str) -> list[str]:
    options = ["--output", f"{folder}/{PHASE}", "--state", f"{folder}/{PHASE}.state", "--log-with", "none"]
    return ["train", "autoencoder", TINY, "--autoencoder", "dc-ae-tiny", "--phase", PHASE, *options]


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(process: int) -> bool:
    status = Path(f"/proc/{process}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


def endless(clone: Clone) -> None:
    """Give the tiny recipe more steps than a test waits for."""
    recipe = clone.folder / "config/recipes/tiny-two-phase.yaml"
    recipe.write_text(re.sub(r" steps: \d+", " steps: 1000000", recipe.read_text(), count=1))


def test_output_and_status_are_those_of_the_command_itself(shared):
    alone, forked = shared.clone.run(*DCAE, *WRONG, check=False), shared.run(*WRONG)
    assert alone.returncode not in (0, None)
    assert (forked.returncode, forked.stdout, forked.stderr) == (alone.returncode, alone.stdout, alone.stderr)
    helped, help_alone = (run("evaluate", "--help") for run in (shared.run, lambda *a: shared.clone.run(*DCAE, *a)))
    assert helped.returncode == 0 and helped.stdout == help_alone.stdout


def test_a_training_gives_the_same_weights(shared):
    for run, folder in ((shared.run, "forked"), (lambda *each: shared.clone.run(*DCAE, *each), "alone")):
        assert run(*training(folder)).returncode == 0
    forked, alone = (shared.clone.folder / folder / PHASE for folder in ("forked", "alone"))
    for name in ("diffusion_pytorch_model.safetensors", "config.json"):
        assert (forked / name).read_bytes() == (alone / name).read_bytes()


def test_the_server_has_no_thread_that_a_fork_would_miss(shared):
    """What other threads hold would be held for ever in a fork. That of jemalloc, pyarrow's, is made anew there."""
    shared.run(*WRONG)
    threads = {int(each.parent.name): each.read_text().strip() for each in shared.tasks.glob("*/comm")}
    assert threads.pop(shared.process)
    assert set(threads.values()) <= {"jemalloc_bg_thd"}


def test_jobs_without_a_number_of_threads_and_other_commands_are_not_handed_over(monkeypatch, tmp_path):
    monkeypatch.setenv(ADDRESS, str(tmp_path / "socket"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(fork_server.socket, "socket", lambda *_: pytest.fail("asked the server"))
    assert hand_over(["tables", "config/demo.yaml"]) is None
    assert hand_over([]) is None
    monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
    assert hand_over(["train", "autoencoder"]) is None
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv(ADDRESS)
    assert hand_over(["train", "autoencoder"]) is None


def test_a_job_has_the_threads_that_it_was_given(shared):
    options = [
        "--dataset",
        "scenes-tiny",
        "--resolution",
        "64",
        "--diffusion",
        "uvit-tiny",
        "--autoencoder",
        "dc-ae-tiny",
    ]
    command = ["profile", TINY, *options, "--patch-size", "1", "--record", "speed.json"]
    assert shared.run(*command, OMP_NUM_THREADS="2").returncode == 0
    record = json.loads((shared.clone.folder / "speed.json").read_text())
    assert record["device"]["threads"] == 2
    assert record["conditions"]["processes"] == 3


def test_after_an_edit_of_what_is_loaded_commands_run_by_themselves(clone):
    server = Server(clone)
    assert "edited" not in server.run(*training("before")).stdout
    with (clone.folder / "dcae/training/engine.py").open("a") as file:
        file.write("\nprint('edited')\n")
    assert "edited" in server.run(*training("after")).stdout
    server.end()


def test_where_there_can_be_no_socket_a_run_goes_without(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(fork_server.tempfile, "tempdir", str(tmp_path / ("long" * 30)))
    Path(fork_server.tempfile.tempdir).mkdir()
    assert fork_server.start() is None
    assert "AF_UNIX path too long" in capsys.readouterr().err
    assert not list(Path(fork_server.tempfile.tempdir).iterdir())


def test_with_a_gpu_there_is_no_server(monkeypatch):
    monkeypatch.setattr(fork_server, "GPUS", ("/dev/null",))
    monkeypatch.setattr(fork_server.subprocess, "Popen", lambda *_, **__: pytest.fail("started a server"))
    assert fork_server.start() is None


def test_snakemake_hands_its_jobs_over(clone):
    clone.edit("workflow/fork_server.py", "    cli.main()\n", "    print('forked')\n    cli.main()\n")
    clone.snakemake("results/tiny/reference/reconstruction/scenes-tiny-64.safetensors")
    assert "forked\n" in (clone.folder / "results/tiny/logs/reference/reconstruction-scenes-tiny-64.log").read_text()


def test_a_run_whose_output_is_a_file_hands_its_jobs_over(clone, tmp_path):
    command = [sys.executable, "-c", STARTER.replace("flush=True", "flush=True, file=sys.stderr")]
    with (tmp_path / "output").open("w") as output:
        starter = subprocess.Popen(
            command, cwd=clone.folder, env=clone.environment, stdin=subprocess.PIPE, stdout=output,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        address = starter.stderr.readline().split()[0]
        forked = clone.run(*DCAE, *WRONG, check=False, **{ADDRESS: address})
        starter.communicate(timeout=60)
    assert "Usage: dcae train autoencoder" in forked.stderr and "Traceback" not in forked.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_training_which_saves_and_stops(shared, number, tmp_path):
    endless(shared.clone)
    waiting = shared.start(*training(str(tmp_path)))
    wait_until(lambda: "step" in waiting.stdout.readline())
    waiting.send_signal(number)
    output, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == EXIT_UNFINISHED, output
    assert list(tmp_path.glob(f"{PHASE}.state/*/checkpoint-*.pt"))


def test_a_signal_to_the_whole_group_lets_jobs_save(shared, tmp_path):
    endless(shared.clone)
    waiting = shared.start(*training(str(tmp_path)))
    wait_until(lambda: "step" in waiting.stdout.readline())
    [job] = shared.jobs()
    for process in (shared.process, job, waiting.pid):
        os.kill(process, signal.SIGTERM)
    output, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == EXIT_UNFINISHED, output
    assert list(tmp_path.glob(f"{PHASE}.state/*/checkpoint-*.pt"))
    assert alive(shared.process)


def test_an_environment_of_any_size_is_handed_over(shared):
    """Linux takes 128 KB for one variable, and a socket's buffer holds 208 KB."""
    large = {f"LARGE_{number}": "x" * 100_000 for number in range(8)}
    before = len(os.listdir(f"/proc/{shared.process}/fd"))
    alone, forked = shared.clone.run(*DCAE, *WRONG, check=False), shared.run(*WRONG, **large)
    assert (forked.returncode, forked.stdout, forked.stderr) == (alone.returncode, alone.stdout, alone.stderr)
    assert len(os.listdir(f"/proc/{shared.process}/fd")) == before


def test_of_a_request_that_ends_early_no_descriptor_stays_open(shared):
    before = len(os.listdir(f"/proc/{shared.process}/fd"))
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(shared.address))
        socket.send_fds(connection, [fork_server.NUMBER.pack(100)], [0, 1, 2])
        connection.sendall(b"{")
    shared.run(*WRONG)
    assert len(os.listdir(f"/proc/{shared.process}/fd")) == before


def test_sockets_that_killed_servers_left_are_removed(monkeypatch, tmp_path):
    monkeypatch.setattr(fork_server.tempfile, "tempdir", str(tmp_path))
    dead, living = tmp_path / "dcae-dead", tmp_path / "dcae-living"
    with socket.socket(socket.AF_UNIX) as closed, socket.socket(socket.AF_UNIX) as open_:
        for listener, folder in ((closed, dead), (open_, living)):
            folder.mkdir()
            listener.bind(str(folder / "socket"))
            listener.listen()
            os.utime(folder / "socket", (0, 0))
        closed.close()
        fork_server._remove_sockets_of_the_dead()
        assert not dead.exists() and (living / "socket").exists()


def test_a_job_dies_with_the_command_that_waits_for_it(shared, tmp_path):
    endless(shared.clone)
    waiting = shared.start(*training(str(tmp_path)))
    wait_until(lambda: "step" in waiting.stdout.readline())
    [job] = shared.jobs()
    assert os.getpgid(job) == os.getpgid(waiting.pid)
    waiting.kill()
    wait_until(lambda: not alive(job))
    assert shared.run("evaluate", "--help").returncode == 0  # the server lives


def test_a_command_ends_by_the_signal_that_ended_its_job(shared, tmp_path):
    endless(shared.clone)
    waiting = shared.start(*training(str(tmp_path)))
    wait_until(lambda: "step" in waiting.stdout.readline())
    os.kill(shared.jobs()[0], signal.SIGKILL)
    assert waiting.wait(timeout=60) == -signal.SIGKILL


def test_a_command_of_another_session_as_torchrun_starts_them_runs_by_itself(shared, tmp_path):
    endless(shared.clone)
    training_by_itself = shared.start(*training(str(tmp_path)), start_new_session=True)
    wait_until(lambda: "step" in training_by_itself.stdout.readline())
    assert shared.jobs() == []
    training_by_itself.kill()
    training_by_itself.wait(timeout=30)


def test_without_the_server_commands_fail_once_and_then_run_by_themselves(clone, tmp_path):
    server = Server(clone)
    endless(clone)
    waiting = server.start(*training(str(tmp_path)))
    wait_until(lambda: "step" in waiting.stdout.readline())
    [job] = server.jobs()
    os.kill(server.process, signal.SIGKILL)
    output, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 1 and f"the fork server ended before its job, process {job}" in output
    assert list(tmp_path.glob(f"{PHASE}.state/*/checkpoint-*.pt")), "it had time to save"
    wait_until(lambda: not alive(job))
    assert server.run("evaluate", "--help").returncode == 0
    server.end()


def test_the_server_ends_with_whoever_started_it_and_leaves_nothing(clone):
    server = Server(clone)
    server.starter.kill()
    wait_until(lambda: not alive(server.process))
    assert not server.address.parent.exists()
    server.starter.wait()

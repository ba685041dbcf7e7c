# SPDX-License-Identifier: Apache-2.0
"""The ``dcae`` command line by hand."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from dcae.benchmark import ConfigError
from dcae.training.stopping import EXIT_UNFINISHED, Unfinished
from workflow import cli
from workflow.startup import release_locks_of_dead_runs


def dcae(monkeypatch, *arguments: str) -> int:
    """Exit status of a sub-command."""
    monkeypatch.setattr(sys, "argv", ["dcae", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code or 0


def commands(command, name: str = "dcae"):
    """Yield name and command of every sub-command."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
    for each in inner or {}:
        yield from commands(inner[each], f"{name} {each}")


def test_every_option_has_a_help_text_and_every_command_the_file_of_its_name():
    found = dict(commands(typer.main.get_command(cli.app)))
    assert len(found) > 15
    without = [f"{name} {each.name}" for name, command in found.items() for each in command.params if not each.help]
    assert without == []
    folder = Path(cli.__file__).parent / "commands"
    words = {name: name.removeprefix("dcae ").replace("-", "_").replace(" ", "_") for name in found}
    files = {name: (folder / f"{word}.py", folder / f"{word.removeprefix('data_')}.py") for name, word in words.items()}
    assert [name for name, places in files.items() if not any(place.is_file() for place in places)] == []


def test_describe_tells_shape_size_and_origin(monkeypatch, capsys):
    assert dcae(monkeypatch, "describe", "autoencoders/dc-ae-f64c128", "--resolution", "512", "--json") == 0
    described = json.loads(capsys.readouterr().out)
    assert described["latent_shape"] == [128, 8, 8]
    assert described["parameters"] == 676_896_140
    assert described["encoder_parameters"] + described["decoder_parameters"] == described["parameters"]
    # As published: 1052.6 and 1398.3.
    assert described["encode_gmacs"] == pytest.approx(1052.6, rel=1e-3)
    assert described["decode_gmacs"] == pytest.approx(1398.3, rel=1e-3)
    assert described["source"] and described["licence"] == "Apache-2.0"


def test_describe_tells_the_licence_before_the_weights_are_here(monkeypatch, capsys):
    def no_network(*_, **__):
        raise FileNotFoundError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", no_network)
    assert dcae(monkeypatch, "describe", "autoencoders/sd3-vae", "--resolution", "512", "--json") == 0
    described = json.loads(capsys.readouterr().out)
    assert described["latent_shape"] == [16, 64, 64] and described["gated"] == "yes"
    assert described["restriction"].startswith("Stability AI Community License")
    assert "hf download stabilityai/stable-diffusion-3-medium-diffusers" in described["why"]


def test_describe_knows_entries_of_every_kind(monkeypatch, capsys):
    assert dcae(monkeypatch, "describe", "diffusion/dit-xl") == 0
    assert "1,152" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["autoencoders/dc-ae-f46", "nonsense/dc-ae-f32c32", "no-such-entry"])
def test_mistakes_are_told_without_a_traceback(monkeypatch, capsys, name):
    assert dcae(monkeypatch, "describe", name) == cli.EXIT_ERROR
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error


def test_an_unfinished_training_has_an_exit_status_of_its_own(monkeypatch, capsys):
    def stopped(prog_name):
        raise Unfinished("time slice used up")

    monkeypatch.setattr(cli, "app", stopped)
    assert dcae(monkeypatch) == EXIT_UNFINISHED
    assert "time slice used up" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "variable", "expected"),
    [([], None, "tensorboard"), ([], "wandb", "wandb"), (["--log-with", "none"], "wandb", "none")],
)
def test_where_the_curves_of_a_training_are_shown(monkeypatch, option, variable, expected):
    given = {}
    monkeypatch.setattr(
        "dcae.training.autoencoder.train_autoencoder_phase", lambda **arguments: given.update(arguments)
    )
    if variable:
        monkeypatch.setenv("DCAE_LOG_WITH", variable)
    which = ["config/demo.yaml", "--autoencoder", "sd-vae-f8c4-mini", "--phase", "single"]
    assert dcae(monkeypatch, "train", "autoencoder", *which, "--output", "o", "--state", "s", *option) == 0
    assert given["log_with"] == expected


def test_errors_of_others_keep_their_traceback(monkeypatch):
    def broken(prog_name):
        raise KeyError("a bug")

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(KeyError):
        cli.main()


def test_a_file_system_without_shared_locks_is_told_and_ends_no_run(tmp_path, monkeypatch, capsys):
    def flock(file, operation):
        if operation == fcntl.LOCK_SH:
            raise OSError(errno.EBADF, "Bad file descriptor")  # what NFS says of a file that cannot be read

    monkeypatch.setattr("workflow.startup.fcntl.flock", flock)
    release_locks_of_dead_runs(tmp_path, "tiny").close()
    assert "this file system has no locks" in capsys.readouterr().err


def test_the_lock_can_be_read_as_shared_locks_of_nfs_need_it(tmp_path):
    with release_locks_of_dead_runs(tmp_path, "tiny") as lock:
        assert lock.readable() and lock.writable()


def test_locks_of_the_dead_go_and_those_of_the_living_stay(tmp_path):
    (tmp_path / "locks").mkdir()
    dead, other = (tmp_path / "locks" / f"{number}.output.lock" for number in (0, 1))

    def leave_locks() -> None:
        dead.write_text("results/tiny/tables/table1.csv\n")
        other.write_text("results/tiny2/tables/table1.csv\n")

    leave_locks()
    first = release_locks_of_dead_runs(tmp_path, "tiny")
    assert not dead.exists(), "no run of this benchmark was alive"
    assert other.exists(), "that of another benchmark may be"
    leave_locks()
    second = release_locks_of_dead_runs(tmp_path, "tiny")
    assert dead.exists(), "the first run is alive"
    release_locks_of_dead_runs(tmp_path, "tiny2").close()
    assert not other.exists(), "a run of one benchmark does not keep another's locks"
    first.close()
    second.close()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / ".snakemake").touch()
    with pytest.raises(ConfigError, match=r"live-runs/tiny.lock: Not a directory; runs need a current folder"):
        release_locks_of_dead_runs(tmp_path / ".snakemake", "tiny")


def test_a_locale_that_lacks_a_sign_prints_it_as_its_number():
    program = "import sys; from workflow import __main__, cli; cli.main = lambda: print('8 × 8'); __main__.main()"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    assert done.stdout == b"8 \\xd7 8\n"

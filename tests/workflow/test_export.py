# SPDX-License-Identifier: Apache-2.0
"""``dcae export``: what a trained autoencoder's folder holds, and what is not exported."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard

from dcae.autoencoders.contract import normalise
from dcae.autoencoders.loading import load, save
from dcae.benchmark import Benchmark, Provenance, Record, Value
from dcae.files import sha256
from tests.workflow.test_commands import dcae
from workflow import cli
from workflow.staleness import configuration

CONFIG = Path(__file__).parent / "config"
REPOSITORY = Path(__file__).parents[2]
TINY = CONFIG / "tiny.yaml"
PHASES = ("low-resolution-full", "low-resolution-local-refinement")
WEIGHTS = "diffusion_pytorch_model.safetensors"


def train(benchmark_file, name, results):
    """The folder of an autoencoder as a training leaves it."""
    benchmark = Benchmark.load(benchmark_file)
    training = benchmark.final_training(name)
    autoencoder = load(benchmark.autoencoder(name), config=benchmark.config, seed=5)
    autoencoder.latent_scale = 0.375
    folder = results / benchmark.name / "autoencoders" / name / training.phase
    save(autoencoder, folder)
    return autoencoder, folder


def write_record(results, weights, name="dc-ae-tiny", values=None):
    values = values or {
        "rfid": Value(value=0.6912, n=8, standard_error=0.0123, random_features=True),
        "psnr": Value(value=21.504, n=8, standard_error=0.31, unit="dB"),
    }
    record = Record(
        kind="reconstruction",
        number_class="reproduced",
        cell={"dataset": "scenes-tiny", "resolution": 64, "autoencoder": name},
        values=values,
        protocol={"name": "random-features-tiny"},
        protocol_fingerprint="0123456789abcdef",
        device={"name": "a processor"},
        provenance=Provenance(
            created="2026-01-01T00:00:00+00:00", version="0", git_commit=None, git_dirty=None, command="", platform="",
            config_digest="", code_digest="", inputs={"weights": weights}, packages={}, python="", seed=0,
            wall_seconds=0.0,
        ),
    )  # fmt: skip
    record.write(results / "tiny" / "records" / "reconstruction" / "scenes-tiny-64" / f"{name}.json")


def write_identity(folder, configuration):
    identity = {"configuration": configuration, "results_version": "3", "data": "da7a", "start": "none", "seed": "0"}
    state = folder.with_name(f"{folder.name}.state") / "0" / "completed.json"
    state.parent.mkdir(parents=True)
    state.write_text(json.dumps({"identity": identity, "files": {WEIGHTS: sha256(folder / WEIGHTS)}}))


def export(monkeypatch, tmp_path, name, file=TINY):
    arguments = ("--autoencoder", name, "--output", str(tmp_path / "export"), "--results", str(tmp_path / "results"))
    return dcae(monkeypatch, "export", str(file), *arguments)


@pytest.fixture
def tiny(tmp_path):
    return train(TINY, "dc-ae-tiny", tmp_path / "results")


def card(tmp_path) -> ModelCard:
    return ModelCard.load(tmp_path / "export" / "README.md")


def table(text, *titles):
    """Cells of the Markdown table with these titles, by row."""
    lines = text.splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    first = next(index for index, row in enumerate(rows) if row == list(titles))
    found = []
    for row in rows[first + 2 :]:
        if len(row) != len(titles):
            break
        found.append(row)
    return found


def test_the_folder_has_the_trained_files_and_a_card(monkeypatch, tmp_path, tiny, capsys):
    _, folder = tiny
    assert export(monkeypatch, tmp_path, "dc-ae-tiny") == 0
    output = tmp_path / "export"
    assert sorted(path.name for path in output.iterdir()) == ["README.md", "config.json", WEIGHTS]
    for name in ("config.json", WEIGHTS):
        assert (output / name).read_bytes() == (folder / name).read_bytes()
        assert sha256(folder / name) in card(tmp_path).text
    assert f"hf upload OWNER/dc-ae-tiny {output}" in capsys.readouterr().out


def test_the_card_has_the_metadata_of_the_hub(monkeypatch, tmp_path, tiny):
    export(monkeypatch, tmp_path, "dc-ae-tiny")
    data = card(tmp_path).data
    assert data.library_name == "diffusers"
    assert {"autoencoder", "latent-diffusion", "dc-ae"} <= set(data.tags)
    assert data.datasets == ["scenes-tiny"]
    assert data.license is None  # the tiny entry names none, and the card says so
    assert "Licence: none named" in card(tmp_path).text


def test_the_card_tells_every_phase(monkeypatch, tmp_path, tiny):
    export(monkeypatch, tmp_path, "dc-ae-tiny")
    settings = {row[0]: row[1:] for row in table(card(tmp_path).text, "", *PHASES)}
    assert settings["trains"] == ["all", "decoder-head"]
    assert settings["steps"] == ["6", "4"]
    assert settings["optimiser.learning_rate"] == ["0.001", "0.001"]
    assert settings["losses.gan.weight"] == ["–", "0.1"]
    assert settings["losses.gan.optimiser.betas"] == ["–", "0.5, 0.9"]


def test_the_card_tells_metrics_with_protocol_and_kind_of_features(monkeypatch, tmp_path, tiny):
    write_record(tmp_path / "results", sha256(tiny[1] / WEIGHTS))
    export(monkeypatch, tmp_path, "dc-ae-tiny")
    titles = ("dataset", "px", "metric", "value ± standard error", "n", "protocol")
    start = ["scenes-tiny", "64"]
    end = ["8", "random-features-tiny 01234567"]
    assert table(card(tmp_path).text, *titles) == [
        [*start, "rFID ↓ (random feature weights)", "0.69 ± 0.01", *end],
        [*start, "PSNR (dB) ↑", "21.50 ± 0.31", *end],
    ]
    assert "*Random feature weights*: of feature networks that were not trained" in card(tmp_path).text


def test_records_of_other_weights_are_left_out_and_told(monkeypatch, tmp_path, tiny, capsys):
    write_record(tmp_path / "results", "another sha256")
    export(monkeypatch, tmp_path, "dc-ae-tiny")
    assert "left out, since it was made with other weights: reconstruction scenes-tiny" in capsys.readouterr().out
    assert "None were measured with these weights." in card(tmp_path).text


@pytest.mark.parametrize(
    ("name", "file"), [("dc-ae-tiny", TINY), ("sd-vae-f8-demo", REPOSITORY / "tests" / "benchmark" / "families.yaml")]
)
def test_the_code_of_the_card_gives_what_the_autoencoder_gives(monkeypatch, tmp_path, name, file):
    trained, _ = train(file, name, tmp_path / "results")
    assert export(monkeypatch, tmp_path, name, file) == 0
    (code,) = re.findall(r"```python\n(.*?)```", card(tmp_path).text, re.S)
    names = {"images": torch.rand(1, 3, 64, 64) * 2 - 1}
    exec(code.replace(f'"{name}"', repr(str(tmp_path / "export"))), names)
    with torch.no_grad():
        latents = trained.encode(names["images"])
        expected = {"latents": normalise(trained, latents), "reconstructions": trained.decode(latents)}
    for what, values in expected.items():  # of other kernels: fp32 sums in another order
        torch.testing.assert_close(names[what], values, rtol=1e-4, atol=1e-5, msg=what)


def test_what_was_trained_otherwise_is_not_exported(monkeypatch, tmp_path, tiny, capsys):
    benchmark = Benchmark.load(TINY)
    now = configuration.training(benchmark.final_training("dc-ae-tiny"))
    write_identity(tiny[1], "0ther")
    assert export(monkeypatch, tmp_path, "dc-ae-tiny") == cli.EXIT_ERROR
    error = capsys.readouterr().err
    assert "was trained with another configuration (digest 0ther)" in error and now in error
    assert not (tmp_path / "export").exists()


def test_the_card_tells_what_decided_the_training(monkeypatch, tmp_path, tiny):
    benchmark = Benchmark.load(TINY)
    now = configuration.training(benchmark.final_training("dc-ae-tiny"))
    write_identity(tiny[1], now)
    assert export(monkeypatch, tmp_path, "dc-ae-tiny") == 0
    titles = ("phase", "digest of its configuration", "results version", "digest of its data")
    assert table(card(tmp_path).text, *titles) == [[PHASES[1], f"`{now}`", "`3`", "`da7a`"]]


@pytest.mark.parametrize(
    ("name", "file", "reason"),
    [
        ("dc-ae-tiny", "tiny", "is not trained yet: .*snakemake --cores all .*safetensors --configfile .*tiny.yaml"),
        ("dc-ae-tiny-no-residual", "tiny", "cannot be exported: AutoencoderDC has no shortcut: none"),
        ("identity", "tiny", "cannot be exported: its architecture is custom code, dcae.autoencoders.controls"),
        ("dc-ae-f8c4-space-to-channel-f64-demo", "demo", "cannot be exported: .* export dc-ae-f8c4-demo"),
        ("sd-vae-f16", "demo", "'sd-vae-f16' is not an autoencoder of .*families.yaml, which has sd-vae-f8-demo, "),
    ],
)
def test_what_is_not_exported_is_told_with_the_reason(monkeypatch, tmp_path, capsys, name, file, reason):
    file = {"tiny": TINY, "demo": REPOSITORY / "tests" / "benchmark" / "families.yaml"}[file]
    assert export(monkeypatch, tmp_path, name, file) == cli.EXIT_ERROR
    assert re.search(reason, capsys.readouterr().err, re.S)
    assert not (tmp_path / "export").exists()


def test_released_weights_are_not_exported(monkeypatch, tmp_path, capsys):
    benchmark = yaml.safe_load(TINY.read_text())
    benchmark |= {"autoencoders": ["dc-ae-f32c32-in-1.0"], "studies": {}, "generation": []}
    (tmp_path / "released.yaml").write_text(yaml.safe_dump(benchmark))
    for kind in ("datasets", "protocols"):
        (tmp_path / kind).symlink_to(CONFIG / kind)
    assert export(monkeypatch, tmp_path, "dc-ae-f32c32-in-1.0", tmp_path / "released.yaml") == cli.EXIT_ERROR
    assert "its weights are those of mit-han-lab/dc-ae-f32c32-in-1.0-diffusers" in capsys.readouterr().err


def test_an_output_that_exists_stays_as_it_is(monkeypatch, tmp_path, tiny, capsys):
    (tmp_path / "export").mkdir()
    assert export(monkeypatch, tmp_path, "dc-ae-tiny") == cli.EXIT_ERROR
    assert "export exists; remove it, or give another folder" in capsys.readouterr().err
    assert list((tmp_path / "export").iterdir()) == []

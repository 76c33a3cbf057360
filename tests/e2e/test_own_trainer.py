"""A trainer in a package of its own: the example of docs/how-to/own-model.md, through the whole chain."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper
from repository import ROOT
from shell import Shell
from tokenizers import Tokenizer, models, pre_tokenizers

from db.source.synthetic import generate
from listeners.tracking.runs import Tracking
from shared.config import read_settings
from shared.mlflow_names import MODEL_EXPERIMENT, Artifact

EXAMPLE = ROOT / "docs/examples/sentence_encoder"
DIMENSIONS = 8


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A folder in which the example is installed, with its entry point."""
    folder = tmp_path_factory.mktemp("packages")
    command = ["pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--offline"]
    subprocess.run(
        [
            Path(sys.executable).with_name("uv"),
            *command,
            "--python",
            sys.executable,
            "--target",
            folder,
            EXAMPLE,
        ],
        check=True,
        timeout=120,
    )
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A folder with a tiny encoder: each word has a random vector."""
    folder = tmp_path_factory.mktemp("encoders") / "tiny"
    folder.mkdir()
    words = {
        "[PAD]": 0,
        "[UNK]": 1,
        **{word: rank for rank, word in enumerate(("livre", "piscine", "jeu"), 2)},
    }
    tokenizer = Tokenizer(models.WordLevel(words, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    vectors = np.random.default_rng(1).standard_normal((len(words), DIMENSIONS)).astype(np.float32)
    given = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["rows", "tokens"])
    tokens = helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["rows", "tokens", DIMENSIONS])
    lookup = helper.make_node("Gather", ["vectors", "input_ids"], ["tokens"])
    graph = helper.make_graph(
        [lookup], "tiny", [given], [tokens], [numpy_helper.from_array(vectors, "vectors")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, folder / "model.onnx")
    return folder


@pytest.fixture(scope="module")
def shell(tmp_path_factory, packages, encoder):
    """One week with the default trainer, and one with the example's."""
    directory = tmp_path_factory.mktemp("own_trainer")
    generate(directory / "data", 2000)
    running = Shell(directory / "state", directory / "data")
    demo = ("demo", "--data", running.data, "--keep", "--weeks")
    first = running(*demo, "1")
    assert first.returncode == 0, first.stdout + first.stderr
    running.environment |= {
        "TRAINER": "sentence_encoder",
        "SENTENCE_ENCODER": str(encoder),
        "PYTHONPATH": str(packages),
    }
    second = running(*demo, "2")
    assert second.returncode == 0, second.stdout + second.stderr
    yield running
    running("db", "stop")


@pytest.fixture(scope="module")
def run(shell):
    tracking = Tracking(read_settings(state_path=shell.state, mlflow_tracking_uri=None, _env_file=None))
    found = tracking.finished_run(MODEL_EXPERIMENT, "model_week_2")
    assert found is not None
    return found


def test_its_model_is_compared_with_one_of_another_trainer_and_promoted(shell, run):
    assert (run.data.params["trainer"], run.data.params["encoder"]) == ("sentence_encoder", "tiny")
    moves = json.loads(shell("champion", "--json").stdout)
    assert "week_2" in json.dumps(moves)
    [(champion, version)] = shell.rows(
        "select became_champion, model_version from pipeline_status where batch_name = 'week_2'"
    )
    assert (champion, version) == (True, 2)
    assert {"expected_calibration_error", "f1_score"} <= run.data.metrics.keys()


def test_it_is_reproduced_within_its_tolerance(shell):
    done = shell("reproduce", "week_2", "--json")
    steps = {verdict["step"]: verdict for verdict in json.loads(done.stdout)}
    assert done.returncode == 0, steps
    assert "0.01" in steps["parameters"]["detail"]


def test_plain_mlflow_loads_and_serves_it(shell, run, tmp_path):
    """Without this package and without the example's."""
    tracking = Tracking(read_settings(state_path=shell.state, mlflow_tracking_uri=None, _env_file=None))
    path = tracking.download(run, Artifact.HOLDOUT_PREDICTIONS, tmp_path)
    products = shell.rows("select productid, designation, description from products where split = 'holdout'")
    frame = pd.DataFrame(products, columns=["productid", "designation", "description"])
    frame = frame.merge(pd.read_parquet(path), on="productid")
    assert len(frame) > 20
    frame.to_parquet(tmp_path / "holdout.parquet")
    program = f"""
import sys
for name in ("listeners", "shared", "db", "rakuten", "sentence_encoder"):
    sys.modules[name] = None
import mlflow, pandas
mlflow.set_tracking_uri({tracking.uri!r})
frame = pandas.read_parquet("holdout.parquet")
predicted = mlflow.pyfunc.load_model({run.data.tags["model_uri"]!r}).predict(frame[["designation", "description"]])
assert predicted.tolist() == frame["prediction"].tolist()
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PATH": os.defpath},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr

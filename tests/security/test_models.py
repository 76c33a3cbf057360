"""Models and datasets come back from MLflow, where somebody may have put others: they run no code, and are not taken for ours."""

import operator
import os
import pickle
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pytest
import skops.io
from mlflow.entities import Run
from mlflow.utils.file_utils import local_file_uri_to_path
from sklearn.preprocessing import FunctionTransformer
from skops.io.exceptions import UntrustedTypesFoundException
from skops_files import called, defaultdict, estimator, file_of, methodcaller, partial, plain

from db.database import Role
from listeners.promotion import choose_champion
from listeners.promotion.champion_alias import champion_alias
from listeners.tracking.runs import Tracking
from listeners.training import model
from listeners.training.dataset import fetch, read_frame
from listeners.training.serialise import SKOPS_TRUSTED_TYPES, log_model
from shared.config import read_settings
from shared.errors import StageError, VerificationError
from shared.hashing import sha256_of
from shared.mlflow_names import CHAMPION, DATASET_EXPERIMENT, MODEL_EXPERIMENT, REGISTERED_MODEL, Tag

TRUSTED = list(SKOPS_TRUSTED_TYPES)
PRODUCTS = pd.DataFrame({"designation": ["piscine", "roman"], "description": [None, None]})


@dataclass(frozen=True)
class Bomb:
    """Models that make a file when they are loaded, or when they predict."""

    mark: Path

    @property
    def exploded(self) -> bool:
        return self.mark.exists()

    @property
    def command(self) -> str:
        return f"touch {self.mark}"

    @property
    def expression(self) -> str:
        """For `DataFrame.eval`, where `@` reaches whatever the module that calls it has imported."""
        return f"@np.f2py.os.system('{self.command}')"

    def __reduce__(self):  # what loading a pickle of the bomb calls
        return os.system, (self.command,)

    def naming_a_function(self) -> bytes:
        return file_of(called("posix", "system", plain(self.command)))

    def calling_a_method_when_it_predicts(self) -> bytes:
        return skops.io.dumps(FunctionTransformer(operator.methodcaller("eval", self.expression)))

    def calling_a_method_when_it_is_loaded(self) -> bytes:
        """`"&" in pipeline` asks for pipeline[0], which asks `steps` for 0, which calls its default_factory."""
        frame = called("pandas", "DataFrame", plain({"a": [1]}))
        steps = defaultdict(partial(methodcaller("eval", self.expression), frame))
        return file_of(called("html", "unescape", estimator("sklearn.pipeline", "Pipeline", steps=steps)))


@pytest.fixture
def bomb(tmp_path):
    return Bomb(tmp_path / "exploded")


def load_and_predict(file: bytes, trusted: list[str]) -> None:
    """What a colleague does with a model; it may fail for any reason, but not make a file."""
    loaded = skops.io.loads(file, trusted=trusted)
    loaded.transform(PRODUCTS)


# ---- the format: a file of skops names types and functions, and only those on our list are made and called


def test_a_model_that_names_another_function_is_refused(bomb, protected):
    trusted = TRUSTED if protected else [*TRUSTED, "posix.system"]
    refused = UntrustedTypesFoundException if protected else AttributeError  # an exit code predicts nothing
    with pytest.raises(refused):
        load_and_predict(bomb.naming_a_function(), trusted)
    assert bomb.exploded is not protected


BY_METHOD = [Bomb.calling_a_method_when_it_predicts, Bomb.calling_a_method_when_it_is_loaded]


@pytest.mark.parametrize("make", BY_METHOD)
def test_a_model_that_calls_a_method_of_its_choice_is_refused(bomb, make):
    with pytest.raises(UntrustedTypesFoundException):
        load_and_predict(make(bomb), TRUSTED)


@pytest.mark.parametrize("make", BY_METHOD)
def test_it_runs_code_where_methodcaller_is_trusted(bomb, make):
    with suppress(TypeError):  # it fails in the end, too late
        load_and_predict(make(bomb), [*TRUSTED, "operator.methodcaller"])
    assert bomb.exploded


# ---- MLflow


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    state = tmp_path_factory.mktemp("state")
    yield Tracking(read_settings(state_path=state, mlflow_tracking_uri=None, _env_file=None))
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


@pytest.fixture(scope="module")
def classifier():
    texts = pd.DataFrame({"designation": ["piscine", "roman"] * 3, "description": ["eau", "livre"] * 3})
    return model.fit(texts, np.array([10, 40] * 3), np.ones(6, np.int64), seed=0).pipeline


@pytest.fixture
def run(tracking):
    tags = {Tag.BATCH_NUMBER: "1"}
    return tracking.client.create_run(
        tracking.experiment_id(MODEL_EXPERIMENT), run_name="model_week_1", tags=tags
    )


def test_a_model_is_logged_without_a_pickle(tracking, classifier, run, protected, monkeypatch, tmp_path):
    if not protected:
        log_safely = mlflow.sklearn.log_model
        pickled = {"serialization_format": "cloudpickle", "skops_trusted_types": None}
        monkeypatch.setattr(mlflow.sklearn, "log_model", lambda *a, **k: log_safely(*a, **k | pickled))
    uri = log_model(run.info.run_id, classifier)
    files = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path))).rglob("*")
    pickles = [path.name for path in files if path.is_file() and path.read_bytes()[:1] == pickle.PROTO]
    assert (pickles == ["model.pkl"]) is not protected


def test_a_champion_that_somebody_planted_is_not_loaded(
    tracking, run, bomb, database, protected, monkeypatch
):
    """A challenger is compared with what the champion predicted in its day, and that is a parquet file."""
    plant(tracking, bomb, run)
    if not protected:
        monkeypatch.setattr(choose_champion, "_predictions_if_any", predictions_of_the_champion)
    challenger = SimpleNamespace(version="999")
    with champion_alias(tracking, database.conninfo(Role.TRAINING)) as alias:
        assert not choose_champion.ensure_promoted(
            tracking, alias, run, challenger, seed=0, attempt=1
        ).promoted
    assert bomb.exploded is not protected


def plant(tracking: Tracking, bomb: Bomb, run: Run) -> None:
    planted = mlflow.sklearn.log_model(
        bomb,
        name="model",
        run_id=run.info.run_id,
        serialization_format="pickle",
        pip_requirements=["scikit-learn"],
        registered_model_name=REGISTERED_MODEL,
    )
    tracking.client.set_registered_model_alias(REGISTERED_MODEL, CHAMPION, planted.registered_model_version)


def predictions_of_the_champion(_tracking: Tracking, _run: Run) -> None:
    """As one would ask for them without thinking; this one predicts nothing."""
    mlflow.sklearn.load_model(f"models:/{REGISTERED_MODEL}@{CHAMPION}")


def test_a_dataset_that_somebody_replaced_is_refused(tracking, protected, monkeypatch, tmp_path):
    run = tracking.client.create_run(tracking.experiment_id(DATASET_EXPERIMENT), run_name="train_week_1")
    ours, forged = tmp_path / "train_week_1.parquet", tmp_path / "forged.parquet"
    PRODUCTS.to_parquet(ours)
    PRODUCTS.assign(designation="forged").to_parquet(forged)
    tracking.client.log_artifact(run.info.run_id, str(ours))
    tracking.client.set_tag(run.info.run_id, Tag.DATASET_SHA256, sha256_of(ours))
    run = tracking.client.get_run(run.info.run_id)
    shutil.copy(forged, local_file_uri_to_path(run.info.artifact_uri) + "/train_week_1.parquet")

    if protected:
        with pytest.raises(VerificationError, match="but its MLflow run recorded"):
            fetch(tracking, run, tmp_path / "fetched")
        return
    monkeypatch.setattr("listeners.training.dataset.require_sha256", lambda *_: None)
    (tmp_path / "fetched").mkdir()
    assert set(read_frame(fetch(tracking, run, tmp_path / "fetched"))["designation"]) == {"forged"}


@pytest.mark.parametrize(
    "name", ["../secret.txt", "model/../../secret.txt", "/secret.txt", "..%2Fsecret.txt"]
)
def test_the_name_of_an_artifact_does_not_lead_out_of_its_run(tracking, tmp_path, name):
    run = tracking.client.create_run(tracking.experiment_id(DATASET_EXPERIMENT), run_name="train_week_1")
    artifacts = Path(local_file_uri_to_path(run.info.artifact_uri))
    (artifacts / "model").mkdir(parents=True)
    (artifacts.parent / "secret.txt").touch()
    with pytest.raises(StageError, match="cannot be read"):
        tracking.download(run, name, tmp_path)

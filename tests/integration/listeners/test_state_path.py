"""MLflow's store and artifacts lie in STATE_PATH, whatever its name."""

import shutil

from listeners.tracking.runs import Tracking
from shared.config import read_settings


def test_mlflow_keeps_everything_in_a_state_folder_whose_name_looks_like_a_url(
    tmp_path, empty_mlflow, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    state = tmp_path / "a?b=c 50%41 it's #1"
    shutil.copytree(empty_mlflow, state / "mlflow")
    tracking = Tracking(read_settings(state_path=state, mlflow_tracking_uri=None, _env_file=None))
    run = tracking.client.create_run(tracking.experiment_id("odd"))
    tracking.client.log_text(run.info.run_id, "text", "file.txt")
    assert [path.read_text() for path in state.rglob("file.txt")] == ["text"]
    assert (state / "mlflow" / "mlflow.db").read_bytes() != (empty_mlflow / "mlflow.db").read_bytes()
    assert list(tmp_path.iterdir()) == [state]

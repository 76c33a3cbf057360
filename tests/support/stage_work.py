"""Both stages of a batch with their real handlers, without listeners."""

from jobs import claim_job, finish

from db.database import Role
from listeners.snapshot import handle as snapshot
from listeners.training import handle as training
from shared.events import Stage


def work_on(database, settings, batch_id: int) -> None:
    """Do both stages of a batch, as the listeners' children do them."""
    for stage, handle in ((Stage.SNAPSHOT, snapshot.handle), (Stage.TRAINING, training.handle)):
        job = claim_job(stage, database.conninfo(Role[stage.upper()]), settings, batch_id)
        finish(job, handle(job))

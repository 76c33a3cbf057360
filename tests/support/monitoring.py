"""A real Prometheus that reads the metrics of real listeners and of a real model server, as docs/monitoring/ configures it."""

import json
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml
from listener_processes import RAKUTEN, Listeners
from repository import ROOT
from server_process import ModelServer
from waiting import eventually

from rakuten.env_file import EXAMPLE
from shared.config import Settings, environment_for
from shared.events import Stage

MONITORING = ROOT / "docs" / "monitoring"
DEADLINE_S = 120

"""params.yaml as frozen dataclasses: the only way settings enter the code.

Everything is checked when the file is read, so a misspelt key costs a second and not a night of training. A wrong file
raises `ConfigError`: one line that names the key and the allowed values.
"""

from mmrec.config.datasets import *
from mmrec.config.experiments import *
from mmrec.config.models import *
from mmrec.config.params import Config, Protocol, load, project
from mmrec.config.paths import Paths
from mmrec.config.types import ConfigError, InstructionSet, Modality, Name

"""params.yaml as frozen dataclasses: the only way settings enter the code.

Everything is checked when the file is read, so that a misspelt key costs a second and not a night of training.
A wrong file raises `ConfigError` with one line that names the key and what is allowed there.
"""

from mmrec.config.datasets import (
    BERT,
    VGG16,
    AmazonSource,
    Dataset,
    DemoSource,
    EfficientNetLite0,
    Encoder,
    GlobalTime,
    LeaveOneOut,
    MovieLensSource,
    Pictures,
    PlacedSource,
    Source,
    Statistics,
    addresses,
    is_fetched,
)
from mmrec.config.experiments import Changes, DataControls, Experiment, Space, Training
from mmrec.config.models import (
    FDSA,
    MAF,
    MODELS,
    NOVA,
    UNTRAINED,
    BERT4Rec,
    Caser,
    GRU4Rec,
    ItemKNN,
    MarkovChain,
    Model,
    Popularity,
    SASRec,
    SASRecF,
    sees,
)
from mmrec.config.params import Config, Protocol, Runtime, load, project
from mmrec.config.paths import Paths
from mmrec.config.types import STRICT, ConfigError, InstructionSet, Modality, Name

"""Settings of each model: the one place that defines them. A model's constructor takes its dataclass whole."""

from typing import Annotated, Literal

from pydantic import Field

from mmrec.config.types import Count, Modalities, Modality, Positive, Share, Weight, section


def _heads_divide(dim: int, heads: int) -> None:
    if dim % heads:
        raise ValueError(f"heads must divide dim: {dim} is no multiple of {heads}")


@section
class Popularity:
    """Counts of each item in training."""


@section
class ItemKNN:
    """Similar items by common users (Sarwar et al. 2001), weighted by recency."""

    neighbours: Count  # kept an item
    shrinkage: Weight  # added to the denominator of a similarity: few common users prove little
    decay: Annotated[float, Field(gt=0, le=1)]  # weight of an item over that of the next one


@section
class MarkovChain:
    """Counts of each transition in training."""

    backoff: Share  # share of popularity in the score


@section
class ItemVectors:
    """What an item is, as input and in the scores; see `models.item_vectors`."""

    dim: Count
    modalities: Modalities  # those that the model reads
    item_vector: Literal["id", "id_and_features", "features"] = "id"
    maps: Literal["shared", "apart"] = "shared"  # of features, for the input and for scoring


@section
class GRU4Rec(ItemVectors):
    """Hidasi et al. 2016."""

    modalities: Modalities = ()
    hidden: Count
    layers: Count  # of the GRU; one did best in the paper
    dropout: Share  # of the embedded items


@section
class Caser:
    """Tang and Wang 2018."""

    dim: Count
    window: Count  # L, latest items that a state sees
    vertical: Count  # filters L x 1
    horizontal: Count  # filters h x dim of each height h = 1..L
    dropout: Share  # of the filters' output


@section
class SASRec:
    """Kang and McAuley 2018."""

    dim: Count
    layers: Count
    heads: Count
    dropout: Share
    positions_from: Literal["oldest", "latest"]  # the end that positions are counted from, see `layers.Positions`

    def __post_init__(self) -> None:
        _heads_divide(self.dim, self.heads)


@section
class BERT4Rec(SASRec):
    """Sun et al. 2019."""

    mask_share: Annotated[float, Field(gt=0, le=1)]  # the paper's rho: share of items masked in training


@section
class Multimodal(SASRec):
    """A model that reads features."""

    modalities: Modalities  # those that feed a stream


@section
class SASRecF(Multimodal):
    """SASRec on items fused with their features: early fusion."""


@section
class UniSRec(ItemVectors, SASRec):
    """Hou et al. 2022, without pre-training."""

    experts: Count  # of the adaptor
    adaptor_dropout: Share  # of its input
    temperature: Positive  # of cosines


@section
class FDSA(Multimodal):
    """Zhang et al. 2019."""


@section
class NOVA(Multimodal):
    """Liu et al. 2021."""

    fusion: Literal["sum", "concat", "gate"]  # of embeddings, in every layer anew


@section
class MAF(ItemVectors, Multimodal):
    """Multimodal attention fusion, the paper's model, and every channel that features can take."""

    stream_dim: Count  # of the other streams; `dim` is the id stream's
    attention: bool = True  # whether streams of features have queries and keys
    values: Literal["id", "concatenated"] = "id"  # their source: reading A or B of the paper
    fusion_stage: Literal["scores", "cross", "joint", "early_concat", "early_sum", "late"]  # see `models.bodies`
    score_fusion: Literal["sum", "concat", "gate"]  # for the stages `scores` and `cross`
    position: Literal["stream", "added"]  # a stream of its own, or added to the id embedding
    image_weight: Weight  # of the auxiliary losses; 0: no head
    text_weight: Weight
    category_weight: Weight
    regression: Literal["cosine", "mse", "contrastive"]  # loss of the image and text heads, see `losses`
    weighting: Literal["fixed", "uncertainty"]  # uncertainty: a learned variance a loss, see `models.maf`
    modality_dropout: Share  # chance of each item in a training sequence to lack a modality

    def __post_init__(self) -> None:
        _heads_divide(self.dim, self.heads)
        _heads_divide(self.stream_dim, self.heads)
        stage = f"fusion_stage {self.fusion_stage}"
        if self.fusion_stage not in ("scores", "cross") and (not self.attention or self.values != "id"):
            raise ValueError(f"{stage}: attention and values are switches of the stages scores and cross")
        if self.fusion_stage in ("early_sum", "late") and self.stream_dim != self.dim:
            raise ValueError(f"{stage} adds streams: stream_dim must be dim, {self.dim}, not {self.stream_dim}")
        if self.fusion_stage == "late" and self.position == "stream":
            raise ValueError(f"{stage}: a stream of positions alone would score items; use position: added")


UNTRAINED = (Popularity, ItemKNN, MarkovChain)
MODELS = {
    "popularity": Popularity,
    "item_knn": ItemKNN,
    "markov_chain": MarkovChain,
    "gru4rec": GRU4Rec,
    "caser": Caser,
    "bert4rec": BERT4Rec,
    "sasrec": SASRec,
    "sasrecf": SASRecF,
    "fdsa": FDSA,
    "unisrec": UniSRec,
    "nova": NOVA,
    "maf": MAF,
}
Model = Popularity | ItemKNN | MarkovChain | GRU4Rec | Caser | BERT4Rec | SASRec | SASRecF | FDSA | UniSRec | NOVA | MAF


def sees(model: Model, modality: Modality) -> bool:
    """Whether a model has a stream or a loss of a modality."""
    return modality in getattr(model, "modalities", ()) or getattr(model, f"{modality}_weight", 0) > 0

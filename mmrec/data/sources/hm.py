"""H&M Personalized Fashion Recommendations (Kaggle 2022): fashion.

    transactions_train.csv, articles.csv
    images/<first 3 digits of article_id>/<article_id>.jpg

An article is one colour of a product. People choose products, and at article level hardly any item is bought twice, so
articles are merged into products: product code = article_id without its last 3 digits.
"""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from mmrec.data.cleaning.rows import Rows, read_csv
from mmrec.data.cleaning.tables import Tables, clean, sentence, unique_ids

CATEGORIES = {  # namespace (columns share names of categories): column of articles.csv
    "type": "product_type_name",
    "group": "product_group_name",
    "index": "index_name",
    "section": "section_name",
    "department": "department_name",
    "garment": "garment_group_name",
}
COLOURS = ["perceived_colour_value_name", "perceived_colour_master_name"]
LOOKS = ["product_type_name", "graphical_appearance_name", *COLOURS]
NOTHING = ["unknown", "undefined"]  # articles.csv fills empty fields with these


def read(folder: Path, repeats: str = "first") -> Tables:
    """A product has the text of its most bought article and the picture of its most bought pictured article.

    Ties go to the smallest article_id. A product without a picture counts as missing one. The data have days only; a
    day becomes its first second, UTC.

    Raises SourceError: a file or column is missing, empty or unreadable, or an article is listed twice.
    """
    bought = read_csv(folder / "transactions_train.csv", ["t_dat", "customer_id", "article_id"])
    columns = ["article_id", "prod_name", *dict.fromkeys([*LOOKS, *CATEGORIES.values()])]
    articles = read_csv(folder / "articles.csv", columns, ["detail_desc"])
    articles = articles.drop(articles.frame["article_id"] == "", "no item")
    unique_ids(articles, "article_id")
    pictured = [path.stem for path in (folder / "images").glob("*/*.jpg")]
    products = _products(articles, bought.frame["article_id"], pictured)
    frame = bought.frame.rename(columns={"customer_id": "user_id", "t_dat": "timestamp"})
    frame = frame.assign(item_id=frame["article_id"].str[:-3]).drop(columns="article_id")
    return clean(replace(bought, frame=frame), products, folder / "images", repeats)


def _products(articles: Rows, bought: pd.Series, pictured: list[str]) -> Rows:
    ids = articles.frame["article_id"]
    sold = ids.map(bought.value_counts()).fillna(0)
    frame = articles.frame.assign(item_id=ids.str[:-3], sold=sold, pictured=ids.isin(pictured))
    # A product without any picture gets the path of the missing file.
    by_picture = frame.sort_values(["pictured", "sold", "article_id"], ascending=[False, False, True])
    picture = by_picture.drop_duplicates("item_id").set_index("item_id")["article_id"]
    most_bought = replace(articles, frame=frame.sort_values(["sold", "article_id"], ascending=[False, True]))
    products = most_bought.drop(most_bought.frame["item_id"].duplicated(), "another colour of the same product")
    products = replace(products, frame=products.frame.sort_values("line"))
    image, described = products.frame["item_id"].map(picture), products.frame.to_dict("records")
    return products.assign(
        title=products.frame["prod_name"],
        text=[_text(article) for article in described],
        categories=[
            [f"{space}: {name}" for space, column in CATEGORIES.items() if (name := _said(article[column]))]
            for article in described
        ],
        image=image.str[:3] + "/" + image + ".jpg",
    )


def _said(value: str) -> str:
    value = value.strip()
    return "" if value.lower() in NOTHING else value


def _text(article: dict[str, str]) -> str:
    """`Strap top. Vest top, solid, dark black. Jersey top with narrow shoulder straps.`"""
    kind, pattern, *colours = (_said(article[column]) for column in LOOKS)
    looks = [kind, pattern.lower(), " ".join(filter(None, colours)).lower()]
    pieces = [sentence(article["prod_name"]), sentence(", ".join(filter(None, looks))), article["detail_desc"].strip()]
    return " ".join(filter(None, pieces))

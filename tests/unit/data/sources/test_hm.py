import pytest
from shop_files import picture, write

from mmrec.data.sources import SourceError
from mmrec.data.sources.hm import read

HEADER = (
    "article_id,product_code,prod_name,product_type_name,product_group_name,graphical_appearance_name,"
    "perceived_colour_value_name,perceived_colour_master_name,department_name,index_name,section_name,"
    "garment_group_name,detail_desc"
)


def article(article_id, name="Strap top", colour="Black", detail="", kind="Vest top"):
    looks, places = f"{kind},Upper body,Solid,Dark,{colour}", "Jersey,Ladies,Basics,Unknown"
    return f'{article_id},{article_id[1:-3]},{name},{looks},{places},"{detail}"'


@pytest.fixture
def hm(tmp_path):
    """Writes the Kaggle layout from articles, articles bought (one a day, each by another user) and pictures."""

    def make(articles, bought, pictures=()):
        days = [f"2020-01-{day:02d},user{day},{article_id},0.1,2" for day, article_id in enumerate(bought, start=1)]
        write(tmp_path / "articles.csv", "\n".join([HEADER, *articles]))
        write(
            tmp_path / "transactions_train.csv",
            "\n".join(["t_dat,customer_id,article_id,price,sales_channel_id", *days]),
        )
        for article_id in pictures:
            picture(tmp_path / "images" / article_id[:3] / f"{article_id}.jpg")
        return tmp_path

    return make


RED, BLUE, BLACK, OTHER = "0108775001", "0108775015", "0108775044", "0222333001"


def articles():
    return [
        article(RED, colour="Red"),
        article(BLUE, colour="Blue"),
        article(BLACK),
        article(OTHER, "Socks", kind="Socks"),
    ]


def test_articles_become_products_with_their_leading_zeros(hm):
    tables = read(hm(articles(), [BLACK, OTHER, RED]))
    assert tables.items["item_id"].tolist() == ["0108775", "0222333"]
    assert tables.interactions["item_id"].tolist() == ["0108775", "0222333", "0108775"]
    assert tables.interactions["timestamp"].tolist() == [1_577_836_800, 1_577_923_200, 1_578_009_600]
    assert tables.quality["items"] == {"read": 4, "kept": 2, "dropped": {"another colour of the same product": 2}}


def test_products_keep_the_order_of_the_file(hm):
    assert read(hm(articles(), [OTHER, OTHER])).items["item_id"].tolist() == ["0108775", "0222333"]


def test_two_colours_bought_by_one_user_are_one_product_bought_again(hm):
    folder = hm(articles(), [RED])
    with (folder / "transactions_train.csv").open("a") as file:
        file.write(f"\n2020-01-05,user1,{BLUE},0.1,2")
    assert read(folder).quality["interactions"]["dropped"] == {"repeat": 1}


def test_words_and_picture_are_those_of_the_most_bought_article(hm):
    tables = read(hm(articles(), [RED, BLUE, BLUE, BLACK], pictures=[RED, BLUE, BLACK]))
    assert "blue" in tables.items["text"][0]
    assert tables.items["image"][0] == "010/0108775015.jpg"


def test_the_picture_is_of_the_most_bought_pictured_article(hm):
    tables = read(hm(articles(), [BLUE, BLUE, BLUE, BLACK, BLACK, RED], pictures=[RED, BLACK]))
    assert "blue" in tables.items["text"][0]
    assert tables.items["image"][0] == "010/0108775044.jpg"


@pytest.mark.parametrize("bought", [[BLACK, BLUE, OTHER], [OTHER]])
def test_ties_go_to_the_smallest_article(hm, bought):
    tables = read(hm(articles()[::-1], bought, pictures=[BLACK, BLUE]))
    assert ("blue" if BLUE in bought else "red") in tables.items.set_index("item_id")["text"]["0108775"]
    assert tables.items.set_index("item_id")["image"]["0108775"] == "010/0108775015.jpg"


def test_a_product_without_any_picture_misses_one(hm):
    tables = read(hm(articles(), [BLUE], pictures=[BLUE]))
    assert tables.quality["images"] == {"listed": 2, "usable": 1, "unusable": {"missing": 1}}
    assert tables.items["image"].tolist() == ["010/0108775015.jpg", None]


def test_text_and_categories(hm):
    rows = [article(RED, detail="A top, in jersey."), article(OTHER, "Socks.", "undefined", kind="Unknown")]
    items = read(hm(rows, [RED])).items
    assert items["title"].tolist() == ["Strap top", "Socks."]
    assert items["text"].tolist() == [
        "Strap top. Vest top, solid, dark black. A top, in jersey.",
        "Socks. solid, dark.",
    ]
    assert items["categories"].tolist() == [
        ["type: Vest top", "group: Upper body", "index: Ladies", "section: Basics", "department: Jersey"],
        ["group: Upper body", "index: Ladies", "section: Basics", "department: Jersey"],
    ]


def test_without_descriptions(hm):
    folder = hm(articles(), [RED])
    lines = (folder / "articles.csv").read_text().splitlines()
    write(folder / "articles.csv", "\n".join(line.rpartition(",")[0] for line in lines))
    assert read(folder).items["text"][0] == "Strap top. Vest top, solid, dark red."


def test_an_article_of_an_unlisted_product_is_unknown_but_another_colour_is_not(hm):
    tables = read(hm([article(RED)], [RED, BLUE, OTHER]))
    assert tables.quality["interactions"] == {"read": 3, "kept": 2, "dropped": {"unknown item": 1}}


def test_an_article_twice(hm):
    with pytest.raises(SourceError, match=r"articles\.csv:4: article_id '0108775001' is already at articles\.csv:2"):
        read(hm([article(RED), "", article(RED)], [RED]))


def test_empty_article_ids_are_counted(hm):
    tables = read(hm([article(RED), "," * 12, "," * 12], [RED, ""]))
    assert tables.quality["items"]["dropped"] == {"no item": 2}
    assert tables.quality["interactions"]["dropped"] == {"no item": 1}

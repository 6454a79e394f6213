import pytest
import torch

from mmrec import config
from mmrec.analysis import attention
from mmrec.models.maf import MAF
from mmrec.models.sasrec import SASRec
from mmrec.statistics import holm


def looking(weigh, streams=lambda items: [items.float()]):
    """One layer, one head: weights over the columns by `weigh(items)`; scores of each stream by `streams(items)`."""

    def look(items):
        time = items.shape[1]
        past = torch.ones(time, time).tril()
        weights = weigh(items)[:, None] * past
        weights = weights / weights.sum(-1, keepdim=True)
        scores = torch.stack([score[:, None] * past for score in streams(items)], 1)
        return weights[None, :, None], scores[None, :, None]

    return look


def compared(ours, theirs, *asked):
    return attention.compared(*(attention.attended(attentions, *asked) for attentions in (ours, theirs)))


def resemblance(attentions, *asked):
    """Mean resemblance by modality."""
    return compared(attentions, attentions, *asked).set_index("modality")["ours"]


def evenly(items):
    return torch.ones(items.shape)


# --- shares of streams -------------------------------------------------------------------------------------------


@pytest.fixture
def three(make_sequences):
    return make_sequences([[3, 1, 4, 2, 6], [5, 2, 1], [1, 6, 2, 5], [2, 1]], 8)


def test_a_constant_stream_has_no_share(three):
    look = looking(evenly, lambda items: [items.float(), torch.full(items.shape, 7.0)])
    shares = attention.stream_shares(look, ["item", "text"], three, 10)
    assert shares["layer"].tolist() == [1, 1] and shares["stream"].tolist() == ["item", "text"]
    assert shares["share"].tolist() == pytest.approx([1, 0])


def test_agreeing_streams_share_by_their_scale(three):
    look = looking(evenly, lambda items: [items.float(), 3 * items.float() + 5])
    assert attention.stream_shares(look, ["a", "b"], three, 10)["share"].tolist() == pytest.approx([0.25, 0.75])


def test_an_opposing_stream_has_a_negative_share(three):
    look = looking(evenly, lambda items: [2 * items.float(), -items.float()])
    assert attention.stream_shares(look, ["a", "b"], three, 10)["share"].tolist() == pytest.approx([2, -1])


def test_shares_do_not_depend_on_the_batch_size(three, monkeypatch):
    look = looking(evenly, lambda items: [items.float(), items.float() ** 2])
    whole = attention.stream_shares(look, ["a", "b"], three, 10)
    monkeypatch.setattr(attention, "BATCH", 1)  # nothing is padded
    assert attention.stream_shares(look, ["a", "b"], three, 10)["share"].tolist() == pytest.approx(whole["share"])


def test_shares_of_every_layer_of_maf_add_up(shop):
    torch.manual_seed(0)
    model = MAF(config.MAF(**MODEL), n_items=30, max_length=8, features=shop.features).eval()
    shares = attention.stream_shares(model.attention, model.streams, shop.sequences, 8)
    assert shares.groupby("layer")["share"].sum().tolist() == pytest.approx([1, 1])
    assert shares["stream"].tolist() == ["item", "image", "text", "category"] * 2


MODEL = {
    **{"dim": 8, "stream_dim": 8, "layers": 2, "heads": 2, "dropout": 0.0, "score_fusion": "sum", "position": "added"},
    **{"positions_from": "oldest"},
    **{"modalities": ("image", "text", "category"), "image_weight": 0.0, "text_weight": 0.0, "category_weight": 0.0},
    **{"regression": "cosine", "fusion_stage": "scores", "weighting": "fixed", "modality_dropout": 0.0},
}


# --- what is attended to -----------------------------------------------------------------------------------------

# Items 1..10 are of one kind, 11..20 of the other; half of them likewise by category.
KINDS = torch.tensor([0] + [0] * 10 + [1] * 10)


def by_kind():
    matrix = torch.stack([KINDS == 0, KINDS == 1], 1).float()
    present = torch.arange(21) > 0
    return {"image": (2 * matrix - 1, present), "category": (matrix, present)}


@pytest.fixture
def mixed(make_sequences):
    generator = torch.Generator().manual_seed(0)
    return make_sequences([(1 + torch.randperm(20, generator=generator)[:6]).tolist() for _ in range(80)], 20)


def same_kind(items):
    """What the last of five items has in common with each."""
    return (KINDS[items] == KINDS[items[:, -1:]]).float() + 0.1


def latest(items):
    return torch.arange(items.shape[1]).float().expand(items.shape) ** 3


def test_resemblance_by_hand(make_sequences):
    sequences = make_sequences([[1, 2, 11, 3, 4]], 20)  # history 1, 2, 11, 3; attention 1 : 2 : 3 to 1, 2, 11
    features = by_kind()
    look = looking(lambda items: torch.arange(1.0, items.shape[1] + 1).expand(items.shape))
    table = resemblance([look], features, sequences, 10)
    assert table["image"] == pytest.approx((1 + 2 - 3) / 6, abs=1e-6)
    assert table["category"] == pytest.approx((1 + 2) / 6)
    matrix, present = features["image"]
    features["image"] = (matrix, present.index_fill(0, torch.tensor([2]), False))  # what lacks it is left out
    found = resemblance([look], features, sequences, 10)
    assert found["image"] == pytest.approx((1 - 3) / 4, abs=1e-6)


def test_attention_compared_with_that_of_another_model(mixed):
    alike, by_place = looking(same_kind), [looking(evenly), looking(latest)]
    table = compared([alike] * 3, by_place, by_kind(), mixed, 10)
    assert table["modality"].tolist() == ["image", "category"]
    assert (table["ci_low"] > 0).all() and (table["p_holm"] < 0.05).all()
    assert (table["users"] == 80).all() and (table["seeds"] == 2).all()
    assert table["p_holm"].tolist() == holm(table["p_value"].to_numpy()).tolist() != table["p_value"].tolist()
    torch.testing.assert_close(table["difference"].tolist(), (table["ours"] - table["theirs"]).tolist())
    observed = resemblance([alike], by_kind(), mixed, 10)
    torch.testing.assert_close(table["ours"].tolist(), observed.tolist())
    back = compared(by_place, [alike] * 3, by_kind(), mixed, 10)
    torch.testing.assert_close(back["difference"].tolist(), (-table["difference"]).tolist())
    same = compared([alike], [alike], by_kind(), mixed, 10)
    assert (same[["difference", "ci_low", "ci_high"]] == 0).all(axis=None) and (same["p_value"] == 1).all()


def test_attention_is_the_mean_of_heads_in_the_last_layer(mixed):
    """Another first layer changes nothing, and two heads are their mean."""

    def look(items):
        one, other = (looking(weigh)(items)[0] for weigh in (same_kind, latest))
        layers = [torch.cat([other, other], 2), torch.cat([one, other], 2)]
        return torch.cat(layers), torch.zeros(2, len(items), 2, 1, *items.shape[1:], items.shape[1])

    both = attention.attended([looking(same_kind), looking(latest)], by_kind(), mixed, 10).weights.mean(0)
    found = attention.attended([look], by_kind(), mixed, 10).weights[0]
    torch.testing.assert_close(found, both)


def test_a_modality_without_a_pair_of_items_is_left_out(mixed):
    features = by_kind()
    matrix, present = features["image"]
    features["image"] = (matrix, present.index_fill(0, torch.arange(1, 20), False))  # one item has it
    look = looking(same_kind)
    assert compared([look], [look], features, mixed, 10)["modality"].tolist() == ["category"]
    nothing = {"image": features["image"]}
    assert compared([look], [look], nothing, mixed, 10).empty


def test_users_without_known_resemblance_under_either_model_are_left_out(make_sequences):
    sequences = make_sequences([[1, 2, 3, 4, 5], [6, 7, 18, 9, 10], [11, 2, 13, 14, 15]], 20)

    def blind(user):  # all weight on the last item, of which nothing is asked
        def weigh(items):
            own = items[:, :1] == user
            return torch.where(own, (torch.arange(items.shape[1]) == 3).float(), torch.ones(items.shape))

        return looking(weigh)

    table = compared([blind(1)], [blind(6)], by_kind(), sequences, 10)
    assert table["users"].tolist() == [1, 1]
    assert table["difference"].tolist() == [0, 0]  # the third user's, who sees the same under both


@pytest.mark.parametrize("start", ["oldest", "latest"])
def test_attention_of_sasrec_is_that_of_maf_without_features(shop, start):
    torch.manual_seed(0)
    without = MODEL | {"modalities": (), "positions_from": start}
    maf = MAF(config.MAF(**without), n_items=30, max_length=8, features=shop.features).eval()
    own = {name: without[name] for name in ("dim", "layers", "heads", "dropout", "positions_from")}
    sasrec = SASRec(config.SASRec(**own), n_items=30, max_length=8).eval()
    names = {"position": "transformer.position", "norm": "transformer.norm", "body": "transformer"}
    state = {}
    for name, value in maf.state_dict().items():
        first, _, rest = name.partition(".")
        state[f"{names.get(first, first)}.{rest}"] = value
    sasrec.load_state_dict(state)
    items = torch.tensor([[3, 1, 4, 5, 9], [2, 6, 5, 0, 0]])
    torch.testing.assert_close(sasrec(items), maf(items))
    torch.testing.assert_close(attention.of_sasrec(sasrec, items), maf.attention(items))


def test_jaccard_by_hand():
    last, others = torch.tensor([[[1.0, 1, 0, 0]]]), torch.tensor([[[1.0, 1, 0, 0], [1, 0, 1, 1], [0, 0, 1, 0]]])
    assert attention._jaccard(last, others).tolist() == [[1, 0.25, 0]]


def test_models_are_averaged(mixed):
    one, other = looking(same_kind), looking(latest)
    both = resemblance([one, other], by_kind(), mixed, 10)
    single = resemblance([one], by_kind(), mixed, 10)
    assert (both < single).all()


def test_examples_are_the_last_layer_of_the_first_test_users(make_sequences):
    sequences = make_sequences([[1, 2, 11, 3, 4], [5, 6, 17, 8, 9]], 20)
    titles = [f"title {item}" for item in range(1, 20)]
    titles[1] = ""
    [(weights, scores, labels)] = attention.examples(looking(latest), sequences, titles, 10, count=1)
    assert labels == ["1. title 1", "2. (no title)", "3. title 11", "4. title 3"]
    assert weights.shape == (4, 4) and weights.sum(1)[1:] == pytest.approx(1)
    assert scores.tolist() == [[1, 2, 11, 3]]

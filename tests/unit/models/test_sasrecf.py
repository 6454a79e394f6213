import torch
from torch import nn

ITEMS, LONGEST = 20, 8  # of the models that conftest makes
MODALITIES = ("image", "text", "category")


@torch.no_grad()
def test_where_fusion_passes_ids_through_it_is_sasrec(make, random_items):
    for modalities in ((), MODALITIES):
        model, sasrec = make("sasrecf", modalities=modalities), make("sasrec", seed=1)
        model.item_norm = nn.Identity()
        model.fuse.weight.zero_()
        model.fuse.weight[:, :8] = torch.eye(8)
        model.fuse.bias.zero_()
        sasrec.transformer.load_state_dict(model.transformer.state_dict())
        sasrec.item.load_state_dict(model.item.state_dict())
        assert torch.equal(model(random_items(0)), sasrec(random_items(0)))


@torch.no_grad()
def test_fusion_by_hand(make, random_items):
    model = make("sasrecf")
    seen = []
    model.transformer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    items = random_items(0)
    model(items)
    for row in range(5):
        for place in range(LONGEST):
            item = items[row, place]
            parts = [model.item_norm(model.item.weight[item])]
            for modality in MODALITIES:
                encoder = model.encoders[modality]
                features, present = model._features(modality)
                own = encoder.norm(encoder.project(features[item]))
                parts.append(own if present[item] else encoder.missing)
            expected = model.fuse.weight @ torch.cat(parts) + model.fuse.bias
            torch.testing.assert_close(seen[0][row, place], expected, rtol=1e-5, atol=1e-5)


def test_in_fresh_models_no_stream_drowns_another(make, random_items):
    """Of one size are the parts of the sum that `fuse` is: the id's and each modality's."""
    model = make("sasrecf", spread=0.0, dim=64)
    items = random_items(0)
    streams = [model.item_norm(model.item(items)), *model.encoded(items)]
    size = torch.stack([(x @ w.T).std() for x, w in zip(streams, model.fuse.weight.split(64, 1), strict=True)])
    assert size.max() < 1.5 * size.min()

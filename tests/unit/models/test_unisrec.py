import torch
import torch.nn.functional as F

ITEMS = 20  # of the models that conftest makes


def test_an_item_is_a_gated_mixture_of_whitened_features(make, make_features):
    model = make("unisrec", modalities=("text",))
    matrix, present = make_features(ITEMS)["text"]
    weights = {name.removeprefix("item.maps.both.text."): value for name, value in model.state_dict().items()}
    item = int(present.nonzero()[0])
    x = F.pad(matrix[item], (0, 1)) / matrix[present].square().sum(1).mean().sqrt()
    gate = (x @ weights["gate.weight"].T).softmax(0)
    experts = [(x - weights["shift"][g]) @ weights[f"project.{g}.weight"].T for g in range(3)]
    expected = sum(a * v for a, v in zip(gate, experts, strict=True))
    torch.testing.assert_close(model.item(torch.tensor([item]))[0], expected)


def test_a_score_is_a_cosine_over_the_temperature(make, random_items):
    model = make("unisrec-ids")
    items = random_items(0)
    states = model.transformer(model.item(items), items)[:, -1]
    cosine = F.cosine_similarity(states[:, None], model.item.table("scores")[None, 1:], dim=2)
    torch.testing.assert_close(model.score(items, torch.full((5,), 8)), cosine / 0.5)


def test_the_gate_is_noisy_in_training_alone(make, random_items):
    model = make("unisrec")
    items = random_items(0)
    assert torch.equal(model(items), model(items))
    model.train()
    assert not torch.isclose(model(items), model(items)).all()

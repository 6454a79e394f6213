import torch

from mmrec.evaluation import evaluate
from mmrec.models.popularity import Popularity


def test_scores_are_counts_of_the_training_items(make_sequences):
    model = Popularity(sequences=make_sequences([[1, 3], [3, 4], [3, 1]], n_items=5))  # too short to be asked
    scores = model.score(torch.tensor([[2], [4]]), torch.tensor([1, 1]))
    assert scores.tolist() == [[2, 0, 3, 1, 0]] * 2


def test_validation_and_test_choices_are_not_counted(make_sequences):
    found = make_sequences([[1, 2, 3], [1, 4, 3], [2, 5, 3]], n_items=8)
    model = Popularity(sequences=found)
    assert model.score(torch.tensor([[1]]), torch.tensor([1])).tolist() == [[2, 1, 0, 0, 0, 0, 0, 0]]
    # Item 3, the target of all, was never chosen in training: all that never were tie with it.
    assert evaluate(model.score, found, "test", 50)["full_all"].tolist() == [8, 8, 8]

import ast
import dataclasses
import json
from datetime import date
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from mmrec import config
from mmrec.config import ConfigError, Paths

ROOT = Path(__file__).parents[3]

PARAMS = """\
runtime: {device: cpu, threads: 1, encoder_threads: 1, instruction_set: portable}
datasets:
  shop:
    title: a shop
    source:
      kind: demo
      seed: 1
      shoppers: 10
      items: 20
      mean_length: 5
      image: 0.3
      text: 0.3
      category: 0.2
      popularity: 0.1
      noise: 0.1
      missing: 0.0
      permute_items: false
    user_core: 5
    item_core: 5
    split: {kind: leave_one_out}
    image: vgg
    text: bert
    category: true
  blind:
    title: a shop without pictures
    source: {kind: folder}
    user_core: 5
    item_core: 5
    split: {kind: global_time, valid: 2020-01-01, test: 2020-02-01}
    image: null
    text: bert
    category: true
    models: {sasrec: {dim: 16}}
    training: {epochs: 7}
protocol: {max_length: 50, ks: [5, 10], negatives: 100, negatives_seed: 0}
encoders:
  vgg: {kind: vgg16, layer: fc7}
  bert: {kind: bert, package: some_package, pooling: mean}
training:
  loss: softmax
  negatives: 16
  epochs: 200
  patience: 10
  batch_size: 256
  learning_rate: 1.0e-3
  weight_decay: 0.0
  clip_norm: 5.0
  gradients: summed
models:
  popularity: {}
  sasrec: {dim: 8, layers: 1, heads: 2, dropout: 0.5, positions_from: oldest}
  maf:
    dim: 8
    stream_dim: 4
    layers: 1
    heads: 2
    dropout: 0.5
    positions_from: oldest
    modalities: [image, text, category]
    score_fusion: sum
    fusion_stage: scores
    position: stream
    image_weight: 1.0
    text_weight: 1.0
    category_weight: 1.0
    regression: cosine
    weighting: fixed
    modality_dropout: 0.0
  bert4rec: {dim: 8, layers: 1, heads: 2, dropout: 0.5, positions_from: oldest, mask_share: 0.2}
  item_knn: {neighbours: 5, shrinkage: 1.0, decay: 0.5}
  sasrecf: {dim: 8, layers: 1, heads: 2, dropout: 0.5, positions_from: oldest, modalities: [text, category]}
  fdsa: {dim: 8, layers: 1, heads: 2, dropout: 0.5, positions_from: oldest, modalities: [text, category]}
  gru4rec: {dim: 8, hidden: 8, layers: 1, dropout: 0.5}
  unisrec: {dim: 8, layers: 1, heads: 2, dropout: 0.5, positions_from: oldest, modalities: [text, category],
    item_vector: features, experts: 2, adaptor_dropout: 0.2, temperature: 0.2}
  nova: {dim: 8, layers: 1, heads: 2, dropout: 0.5, positions_from: oldest, modalities: [text, category], fusion: gate}
experiments:
  main:
    popularity: {model: popularity}
    sasrec: {model: sasrec}
    maf: {model: maf}
  narrow:
    sasrec: {model: sasrec, options: {dim: 4}, training: {epochs: 3}}
  deep:
    sasrec_deep: {model: sasrec, options: {layers: 2}}
tuning:
  experiments: [maf]
  trials: 3
  seed: 0
  training: {epochs: 5}
  space:
    learning_rate: [1.0e-3, 1.0e-2]
    dropout: [0.1, 0.6]
    dim: [4]
    layers: [1]
    positions_from: [oldest]
    fusion: [sum, gate]
    image_weight: [0.1, 1.0]
    text_weight: [0.1, 1.0]
    category_weight: [0.1, 1.0]
seeds: [0, 1]
"""


@pytest.fixture
def read(tmp_path):
    def read(old: str = "", new: str = "") -> config.Config:
        assert old in PARAMS
        path = tmp_path / "params.yaml"
        path.write_text(PARAMS.replace(old, new, 1))
        return config.load(path)

    return read


def test_the_repositorys_params_load_and_every_group_resolves_on_every_data_set():
    settings = config.load(ROOT / "params.yaml")
    for dataset in settings.datasets:
        for group in settings.experiments:
            resolved = {e.name for e in settings.resolve(dataset, group)}
            lacking = {name for name, entry in settings.experiments[group].items() if entry.needs}
            assert set(settings.experiments[group]) - resolved <= lacking


# --- what is wrong is refused, in one line that names it ----------------------------------------------------------


def amazon(category, release=2014):
    return f"{{kind: amazon, release: {release}, category: {category}}}"


WRONG = {
    "misspelt section": ("seeds:", "seed:", ["params.yaml.seed: no such key", "'seeds'"]),
    "misspelt key": ("patience: 10", "patients: 10", ["training.patients: no such key", "'patience'"]),
    "misspelt key in a source": ("shoppers: 10", "shopers: 10", ["source.demo.shopers: no such key", "'shoppers'"]),
    "misspelt key in an encoder": ("layer: fc7", "layr: fc7", ["encoders.vgg.vgg16.layr: no such key", "'layer'"]),
    "key that is missing": ("    title: a shop\n", "", ["datasets.shop.title: Field required"]),
    "text for a number": ("epochs: 200", "epochs: many", ["training.epochs", "integer", "'many'"]),
    "quoted number": ("epochs: 200", 'epochs: "200"', ["training.epochs", "integer", "'200'"]),
    "fraction for a count": ("threads: 1", "threads: 1.5", ["runtime.threads", "integer", "1.5"]),
    "truth for a number": ("epochs: 200", "epochs: true", ["training.epochs", "integer", "True"]),
    "number for a truth": ("category: true", "category: 1", ["datasets.shop.category", "boolean", "1"]),
    "yes for a truth": ("category: true", "category: yes", ["datasets.shop.category", "boolean", "'yes'"]),
    "zero epochs": ("epochs: 200", "epochs: 0", ["training.epochs", "greater than or equal to 1"]),
    "no learning": ("learning_rate: 1.0e-3", "learning_rate: 0.0", ["training.learning_rate", "greater than 0"]),
    "infinite": ("learning_rate: 1.0e-3", "learning_rate: .inf", ["training.learning_rate", "finite"]),
    "not a number": ("weight_decay: 0.0", "weight_decay: .nan", ["training.weight_decay"]),
    "negative weight": ("text_weight: 1.0", "text_weight: -1.0", ["models.maf.text_weight", "greater than or equal"]),
    "all dropped": ("dropout: 0.5", "dropout: 1.0", ["models.sasrec.dropout", "less than 1"]),
    "too short": ("max_length: 50", "max_length: 1", ["protocol.max_length", "greater than or equal to 2"]),
    "no k": ("ks: [5, 10]", "ks: []", ["protocol.ks", "at least 1"]),
    "a k twice": ("ks: [5, 10]", "ks: [5, 5]", ["params.yaml.protocol.ks: it holds one twice"]),
    "no seed": ("seeds: [0, 1]", "seeds: []", ["seeds", "at least 1"]),
    "seed too large": ("seeds: [0, 1]", "seeds: [4294967296]", ["seeds.0", "less than 4294967296"]),
    "heads of sasrec": ("dim: 8", "dim: 9", ["models.sasrec", "heads must divide dim", "9 is no multiple of 2"]),
    "heads of a stream": ("stream_dim: 4", "stream_dim: 5", ["models.maf", "heads must divide", "5 is no multiple"]),
    "unknown modality": ("[image, text, category]", "[image, sound]", ["maf.modalities.1", "'image', 'text'", "sound"]),
    "modality not in a list": ("[image, text, category]", "image", ["maf.modalities", "array", "'image'"]),
    "modality twice": ("[image, text, category]", "[text, text]", ["models.maf.modalities: it holds one twice"]),
    "unknown fusion": (
        "fusion: sum",
        "fusion: mean",
        ["models.maf.score_fusion", "'sum', 'concat' or 'gate'", "'mean'"],
    ),
    "strengths": ("noise: 0.1", "noise: 0.2", ["datasets.shop.source.demo", "must be 1, they are 1.1"]),
    "unknown source": ("kind: demo", "kind: damo", ["datasets.shop.source", "'damo'", "'demo', 'folder'"]),
    "category that is a path": ("{kind: folder}", amazon("../x"), ["source.amazon.category", "pattern", "'../x'"]),
    "category with a line break": ("{kind: folder}", amazon('"B\\n"'), ["source.amazon.category", "pattern"]),
    "unknown release": ("{kind: folder}", amazon("B", 2015), ["source.amazon.release", "2014", "2015"]),
    "mirror that is no web address": (
        "{kind: folder}",
        "{kind: amazon, release: 2018, category: B, mirrors: [file:///etc]}",
        ["source.amazon.mirrors.0", "pattern", "file:///etc"],
    ),
    "pictures that nobody fetches": (
        "{kind: folder}",
        "{kind: amazon, release: 2018, category: B, pictures: {}}",
        ["source.amazon", "give mirrors"],
    ),
    "no time for a picture": (
        "{kind: folder}",
        "{kind: amazon, release: 2018, category: B, mirrors: [http://x], pictures: {deadline: 0}}",
        ["source.amazon.pictures.deadline", "greater than 0"],
    ),
    "plots without ratings": (
        "{kind: folder}",
        "{kind: movielens, plots: [http://x/metadata.pkl]}",
        ["source.movielens", "have addresses, or none of them has"],
    ),
    "unknown precision": (
        "layer: fc7}",
        "layer: fc7, stored: float8}",
        ["encoders.vgg.vgg16.stored", "'float32' or 'float16'", "float8"],
    ),
    "unknown answer to another size": (
        "{epochs: 7}",
        "{epochs: 7}\n    expected: {users: 1, items: 1, on_mismatch: ignore}",
        ["expected.on_mismatch", "'raise' or 'warn'", "ignore"],
    ),
    "unknown split": ("kind: leave_one_out", "kind: half", ["datasets.shop.split", "'half'", "'leave_one_out'"]),
    "dates reversed": ("valid: 2020-01-01", "valid: 2021-01-01", ["split.global_time", "valid must be before test"]),
    "no date": ("valid: 2020-01-01", "valid: soon", ["split.global_time.valid", "date", "'soon'"]),
    "unknown device": ("device: cpu", "device: tpu", ["runtime.device", "'auto', 'cpu' or 'cuda'", "'tpu'"]),
    "unknown encoder": ("image: vgg", "image: resnet", ["datasets.shop.image", "'resnet'", "one of ['vgg', 'given']"]),
    "text encoder for images": ("image: vgg", "image: bert", ["datasets.shop.image", "no image encoder 'bert'"]),
    "two origins": ("package: some_package", "package: a, path: b", ["encoders.bert", "exactly one of name, package"]),
    "no revision": ("package: some_package", "name: bert", ["encoders.bert", "name and revision go together"]),
    "group before main": (
        "    models: {sasrec: {dim: 16}}",
        "    groups: [narrow]\n    models: {sasrec: {dim: 16}}",
        ["blind.groups: the first is main, not ['narrow']"],
    ),
    "unknown group": (
        "    models: {sasrec: {dim: 16}}",
        "    groups: [main, man]\n    models: {sasrec: {dim: 16}}",
        ["blind.groups", "'man'", "'main'"],
    ),
    "group twice": ("{epochs: 7}", "{epochs: 7}\n    groups: [main, main]", ["blind.groups: it holds one twice"]),
    "experiment in two groups": (
        "{epochs: 7}",
        "{epochs: 7}\n    groups: [main, narrow]",
        ["datasets.blind.groups: ['sasrec'] would be in two of them"],
    ),
    "choice for an unknown experiment": (
        "{epochs: 7}",
        "{epochs: 7}\n    experiments: {sasrek: {}}",
        ["datasets.blind.experiments: no experiment ['sasrek']", "'sasrec'"],
    ),
    "choice for an experiment of another group": (
        "{epochs: 7}",
        "{epochs: 7}\n    experiments: {sasrec_deep: {}}",
        ["datasets.blind.experiments: no experiment ['sasrec_deep']; one of ['popularity', 'sasrec', 'maf']"],
    ),
    "choice of an unknown setting": (
        "{epochs: 7}",
        "{epochs: 7}\n    experiments: {sasrec: {options: {dims: 4}}}",
        ["datasets.blind", "main.sasrec.options.dims: no such key", "'dim'"],
    ),
    "choice of an unknown setting of training": (
        "{epochs: 7}",
        "{epochs: 7}\n    experiments: {sasrec: {training: {epoch: 4}}}",
        ["datasets.blind", "main.sasrec.training.epoch: no such key", "'epochs'"],
    ),
    "choice of a model": (
        "{epochs: 7}",
        "{epochs: 7}\n    experiments: {sasrec: {model: maf}}",
        ["blind.experiments.sasrec.model: no such key; one of ['options', 'training', 'data']"],
    ),
    "seeds of a data set": ("{epochs: 7}", "{epochs: 7}\n    seeds: []", ["datasets.blind.seeds", "at least 1"]),
    "no user expected": (
        "{epochs: 7}",
        "{epochs: 7}\n    expected: {users: 0, items: 1, interactions: 1}",
        ["datasets.blind.expected.users", "greater than or equal to 1"],
    ),
    "unknown loss": (
        "loss: softmax",
        "loss: hinge",
        ["training.loss", "'softmax', 'sampled_softmax' or 'bce'", "hinge"],
    ),
    "no negatives to draw": ("negatives: 16", "negatives: 0", ["training.negatives", "greater than or equal to 1"]),
    "nothing masked": ("mask_share: 0.2", "mask_share: 0.0", ["models.bert4rec.mask_share", "greater than 0"]),
    "growing with age": ("decay: 0.5", "decay: 1.5", ["models.item_knn.decay", "less than or equal to 1"]),
    "unknown fusion of embeddings": ("fusion: gate", "fusion: mean", ["models.nova.fusion", "or 'gate'", "'mean'"]),
    "unknown stage": (
        "stage: scores",
        "stage: middle",
        ["models.maf.fusion_stage", "'early_sum' or 'late'", "'middle'"],
    ),
    "streams of two widths that are added": (
        "stage: scores",
        "stage: late",
        ["models.maf", "fusion_stage late adds streams: stream_dim must be dim, 8, not 4"],
    ),
    "late positions": (
        "stream_dim: 4\n    layers: 1\n    heads: 2\n    dropout: 0.5\n    positions_from: oldest\n"
        "    modalities: [image, text, category]\n    score_fusion: sum\n    fusion_stage: scores",
        "stream_dim: 8\n    layers: 1\n    heads: 2\n    dropout: 0.5\n    positions_from: oldest\n"
        "    modalities: [image, text, category]\n    score_fusion: sum\n    fusion_stage: late",
        ["models.maf", "fusion_stage late", "use position: added"],
    ),
    "budget of a search": ("{epochs: 5}", "{epoch: 5}", ["tuning.training.epoch: no such key", "'epochs'"]),
    "a search for nothing": (
        "experiments: [maf]",
        "experiments: [mof]",
        ["tuning.experiments: no neural experiment 'mof'", "'maf'"],
    ),
    "range reversed": (
        "dropout: [0.1, 0.6]",
        "dropout: [0.6, 0.1]",
        ["tuning.space", "dropout: the lowest comes first"],
    ),
    "unknown model": ("{model: maf}", "{model: mof}", ["experiments.main.maf.model", "'mof'", "'maf'"]),
    "defaults of an unknown model": ("  maf:\n    dim", "  mof:\n    dim", ["models: no model 'mof'", "'maf'"]),
    "experiment's override": ("{dim: 4}", "{dims: 4}", ["narrow.sasrec.options.dims: no such key", "'dim'"]),
    "experiment's training": ("{epochs: 3}", "{epoch: 3}", ["narrow.sasrec.training.epoch: no such key", "'epochs'"]),
    "experiment's value": ("{epochs: 3}", "{epochs: 0}", ["narrow.sasrec.training.epochs", "greater than or equal"]),
    "experiment's control": (
        "options: {dim: 4}",
        "data: {features: permutated}",
        ["narrow.sasrec.data.features", "'permuted', 'random' or 'none'", "'permutated'"],
    ),
    "experiment's key": ("options: {dim", "option: {dim", ["narrow.sasrec.option: no such key", "'options'"]),
    "data set's override": ("{dim: 16}", "{dims: 16}", ["blind.models.sasrec.dims: no such key", "'dim'"]),
    "data set's model": ("{sasrec: {dim", "{sasrecs: {dim", ["blind.models: no model 'sasrecs'", "'sasrec'"]),
    "data set's training": ("{epochs: 7}", "{epoch: 7}", ["blind.training.epoch: no such key", "'epochs'"]),
    "setting where there is none": ("popularity: {}", "popularity: {dim: 3}", ["models.popularity.dim", "no settings"]),
    "format of hm's times": ("{kind: folder}", '{kind: hm, timestamp_format: "%Y"}', ["are for kind folder"]),
    "years of hm": ("{kind: folder}", "{kind: hm, any_year: true}", ["are for kind folder"]),
    "key that is a date": ("seeds:", "2020-01-01: 3\nseeds:", ["plain name"]),
    "key that is a list": ("seeds:", "? [a, b]\n: 3\nseeds:", ["plain name"]),
    "key twice": ("epochs: 200", "epochs: 200\n  epochs: 3", ["params.yaml", "duplicate key", "epochs"]),
    "broken": ("runtime: {", "runtime: {{", ["params.yaml is no YAML", "line"]),
    "a list": (PARAMS, "[1, 2]", ["params.yaml"]),
    "empty": (PARAMS, "", ["params.yaml"]),
}


@pytest.mark.parametrize("old, new, named", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_file_is_refused_with_one_line_naming_the_key(read, old, new, named):
    with pytest.raises(ConfigError) as refusal:
        read(old, new)
    message = str(refusal.value)
    assert "\n" not in message
    assert [part for part in named if part not in message] == [], message


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="params.yaml does not exist"):
        config.load(tmp_path / "params.yaml")


def test_bytes_other_than_text_are_refused(tmp_path):
    (tmp_path / "params.yaml").write_bytes(b"seeds: \xff\xfe\xfa")
    with pytest.raises(ConfigError, match="is no YAML"):
        config.load(tmp_path / "params.yaml")


# --- what is right means what it says ----------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["1e-4", "1.0e-4", "1E-4", "0.0001", "1.0E-04"])
def test_small_numbers_may_be_written_in_every_usual_way(read, written):
    assert read("learning_rate: 1.0e-3", f"learning_rate: {written}").training.learning_rate == 1e-4


def test_a_whole_number_may_stand_for_a_real_one(read):
    assert read("clip_norm: 5.0", "clip_norm: 5").training.clip_norm == 5


def test_dates_lists_and_nulls_keep_their_types(read):
    blind = read().datasets["blind"]
    assert (blind.split.valid, blind.split.test) == (date(2020, 1, 1), date(2020, 2, 1))
    assert blind.image is None
    assert read().protocol.ks == (5, 10)


def test_the_smallest_data_set_is_a_title_and_a_source(read):
    smallest = read("  blind:\n", "  own:\n    title: my shop\n    source: {kind: folder}\n  blind:\n").datasets["own"]
    assert (smallest.user_core, smallest.item_core, smallest.split) == (5, 5, config.LeaveOneOut())
    assert (smallest.modalities, smallest.groups, smallest.expected) == ((), ("main",), None)


def test_without_features_a_model_has_no_modality(read):
    settings = read("maf: {model: maf}", "maf: {model: maf, data: {features: none}}")
    found = settings.resolve("shop", "main")[2]
    assert (found.data, found.model.modalities) == (config.DataControls(features="none"), ())


def test_a_data_set_of_ids_alone_ignores_checks_of_groups_it_does_not_run():
    found = config.load(ROOT / "params.yaml")
    ids = dataclasses.replace(found.datasets["demo"], image=None, text=None, category=False, groups=("main",))
    found = dataclasses.replace(found, datasets=found.datasets | {"ids": ids})
    assert [e.name for e in found.resolve("ids", "main")] == ["popularity", "sasrec", "maf"]


@pytest.mark.parametrize("features", ["none", "permuted", "random"])
def test_a_feature_control_on_a_model_without_features_is_refused(read, features):
    with pytest.raises(ConfigError, match="main.sasrec.data.features: the model sees no feature of shop; say own"):
        read("sasrec: {model: sasrec}", f"sasrec: {{model: sasrec, data: {{features: {features}}}}}")


def test_settings_cannot_be_changed_after_reading(read):
    with pytest.raises(dataclasses.FrozenInstanceError):
        read().training.epochs = 3


def test_experiment_wins_over_data_set_and_data_set_over_defaults(read):
    settings = read()

    def width_and_epochs(dataset, group):
        experiment = next(e for e in settings.resolve(dataset, group) if e.name == "sasrec")
        return experiment.model.dim, experiment.training.epochs

    assert width_and_epochs("shop", "main") == (8, 200)
    assert width_and_epochs("blind", "main") == (16, 7)
    assert width_and_epochs("shop", "narrow") == (4, 3)
    assert width_and_epochs("blind", "narrow") == (4, 3)


def test_a_setting_without_override_keeps_its_default(read):
    narrow = read().resolve("blind", "narrow")[0]
    assert (narrow.group, narrow.name) == ("narrow", "sasrec")
    assert narrow.model == config.SASRec(dim=4, layers=1, heads=2, dropout=0.5, positions_from="oldest")
    assert narrow.training == dataclasses.replace(read().training, epochs=3)


def test_overrides_of_one_model_do_not_change_other_models(read):
    assert next(e for e in read().resolve("blind", "main") if e.name == "maf").model.dim == 8


CHOSEN = "experiments: {sasrec: {options: {dim: 2}, training: {epochs: 5}}, maf: {options: {score_fusion: gate}}}"


def test_settings_of_an_experiment_on_a_data_set_win_over_all_others(read):
    deeper = "groups: [main, deep]\n    experiments: {sasrec_deep: {options: {layers: 3}}}"
    [chosen] = read("{epochs: 7}", "{epochs: 7}\n    " + deeper).resolve("blind", "deep")
    assert (chosen.model.layers, chosen.model.dim) == (3, 16)  # not the 2 of the experiment
    [elsewhere] = read("{epochs: 7}", "{epochs: 7}\n    " + deeper).resolve("shop", "deep")
    assert elsewhere.model.layers == 2

    settings = read("{epochs: 7}", "{epochs: 7}\n    " + CHOSEN)
    popularity, sasrec, maf = settings.resolve("blind", "main")
    assert (sasrec.model.dim, sasrec.training.epochs) == (2, 5)  # not the 16 and 7 of the data set
    assert (maf.model.dim, maf.model.score_fusion, maf.training.epochs) == (8, "gate", 7)
    assert popularity == read().resolve("blind", "main")[0]
    assert settings.resolve("shop", "main") == read().resolve("shop", "main")


def test_tuned_settings_of_a_data_set_can_be_left_out(read):
    settings = read("{epochs: 7}", "{epochs: 7}\n    " + CHOSEN)
    assert settings.resolve("blind", "main", tuned=False) == read().resolve("blind", "main")


VARIANTS = """\
  variant:
    gated: {model: maf, control: maf, options: {score_fusion: gate}}
    unlike: {model: maf, control: sasrec, options: {regression: mse}}
    blind_too: {model: maf, control: gated, needs: [image]}
  deep:"""


@pytest.fixture
def variants(tmp_path):
    def variants(chosen: str, experiments: str = VARIANTS) -> tuple[config.Config, dict[str, config.Experiment]]:
        text = PARAMS.replace("  deep:", experiments, 1)
        text = text.replace("{epochs: 7}", "{epochs: 7}\n    groups: [main, variant]\n    experiments: " + chosen, 1)
        (tmp_path / "params.yaml").write_text(text)
        settings = config.load(tmp_path / "params.yaml")
        return settings, {e.name: e for e in settings.resolve("blind", "variant")}

    return variants


def test_a_variant_differs_from_its_tuned_control_in_its_own_settings_alone(variants):
    settings, found = variants("{maf: {options: {score_fusion: concat, layers: 3}, training: {epochs: 5}}}")
    tuned = next(e for e in settings.resolve("blind", "main") if e.name == "maf")
    assert (tuned.model.layers, tuned.model.score_fusion, tuned.training.epochs) == (3, "concat", 5)
    assert found["gated"].model == dataclasses.replace(tuned.model, score_fusion="gate")
    assert found["gated"].training == tuned.training
    assert (found["unlike"].model.layers, found["unlike"].training.epochs) == (1, 7)  # its control is another model


def test_tuned_settings_of_a_variant_win_over_its_control(variants):
    _, found = variants("{maf: {options: {layers: 3, dropout: 0.2}}, gated: {options: {dropout: 0.1}}}")
    assert (found["gated"].model.layers, found["gated"].model.dropout) == (3, 0.1)


def test_a_variant_of_a_variant_inherits_settings_and_data_controls(variants):
    chain = """  variant:
    first: {model: maf, control: maf, options: {layers: 2}, training: {epochs: 3}, data: {histories: shuffled}}
    second: {model: maf, control: first, options: {heads: 1}}
    other: {model: sasrec, control: first, options: {dim: 2}}
  deep:"""
    _, found = variants("{first: {options: {dropout: 0.2}}}", chain)
    second, other = found["second"], found["other"]
    assert (second.model.layers, second.model.heads, second.model.dropout, second.training.epochs) == (2, 1, 0.2, 3)
    assert (second.data.histories, other.data.histories, other.training.epochs) == ("shuffled", "ordered", 7)


def test_a_circle_of_controls_is_refused(variants):
    circle = """  variant:
    one: {model: maf, control: other, options: {layers: 2}}
    other: {model: maf, control: one, options: {layers: 3}}
  deep:"""
    with pytest.raises(ConfigError, match="variant.other.control: 'one' starts from 'other' itself"):
        variants("{}", circle)


def test_experiments_are_skipped_if_the_data_set_lacks_a_needed_modality(variants):
    settings, found = variants("{}")
    assert list(found) == ["gated", "unlike"]
    assert [e.name for e in settings.resolve("shop", "variant")] == ["gated", "unlike", "blind_too"]


@pytest.mark.parametrize(
    "model, options", [("sasrec", "{}"), ("maf", "{modalities: [text], category_weight: 0.0}")], ids=["sasrec", "maf"]
)
def test_fewer_categories_are_refused_where_none_is_shown(variants, model, options):
    asked = f"{{model: {model}, control: maf, options: {options}, data: {{categories: rarest}}}}"
    with pytest.raises(ConfigError, match="variant.gated.data.categories: no category is shown there"):
        variants("{}", VARIANTS.replace("{model: maf, control: maf, options: {score_fusion: gate}}", asked, 1))


def test_fewer_categories_are_refused_on_a_data_set_without_any(read):
    asked = "{model: maf, options: {modalities: [category]}, data: {categories: rarest}}"
    changed = PARAMS.replace("  deep:", f"  fewer:\n    fewer: {asked}\n  deep:", 1)
    shop, blind = changed.split("  blind:")
    changed = f"{shop}  blind:{blind.replace('category: true', 'category: false', 1)}"
    with pytest.raises(ConfigError, match="with datasets.blind, experiments.fewer.fewer.data.categories: no category"):
        read(PARAMS, changed)
    found = read(PARAMS, changed.replace("maf, options: {modalities", "maf, needs: [category], options: {modalities"))
    assert not found.resolve("blind", "fewer") and found.resolve("shop", "fewer")[0].data.categories == "rarest"


def test_controls_of_a_data_set_are_those_of_its_groups(variants):
    settings, _ = variants("{}")
    assert settings.controls("blind") == {"gated": "maf", "unlike": "sasrec"}
    assert settings.controls("shop") == {}


@pytest.mark.parametrize("control", ["gated", "nothing", "sasrec_deep", "popularit"])
def test_an_unknown_control_is_refused(variants, control):
    with pytest.raises(ConfigError, match=f"experiments.variant.gated.control: '{control}' is no other experiment"):
        variants("{}", VARIANTS.replace("control: maf", f"control: {control}", 1))


def test_an_experiment_equal_to_one_of_main_is_refused(variants):
    with pytest.raises(
        ConfigError, match="experiments.variant.gated is the same as maf of main: say what differs under"
    ):
        variants("{}", VARIANTS.replace("{score_fusion: gate}", "{}", 1))


def test_unused_groups_may_share_names_with_used_ones(read):
    assert read("{epochs: 7}", "{epochs: 7}\n    groups: [main, deep]").datasets["blind"].groups == ("main", "deep")
    assert read().datasets["shop"].groups == ("main",)  # and `narrow` has a sasrec too


def test_an_experiment_of_a_group_that_is_not_asked_for_names_the_group(read):
    with pytest.raises(ConfigError, match="no experiment 'sasrec_deep'; one of .*; add deep to datasets.blind.groups"):
        read().experiment("blind", "sasrec_deep")
    with pytest.raises(ConfigError, match="no experiment 'mof'; one of [^;]*$"):
        read().experiment("blind", "mof")


def test_seeds_of_a_data_set_win_over_those_of_all(read):
    settings = read("{epochs: 7}", "{epochs: 7}\n    seeds: [5, 6, 7]")
    assert settings.seeds_of("blind") == (5, 6, 7)
    assert settings.seeds_of("shop") == settings.seeds == (0, 1)


def test_the_instruction_set_of_a_data_set_wins_over_the_shared_one(read):
    settings = read("{epochs: 7}", "{epochs: 7}\n    instruction_set: native")
    assert settings.runtime_of("blind") == dataclasses.replace(settings.runtime, instruction_set="native")
    assert settings.runtime_of("shop") == settings.runtime
    assert settings.runtime.instruction_set == "portable"


def test_an_experiment_knows_its_data_set(read):
    assert {e.dataset for e in read().resolve("blind", "main")} == {"blind"}


def test_published_sizes_of_a_data_set_are_read(read):
    settings = read("{epochs: 7}", "{epochs: 7}\n    expected: {users: 3, items: 2, interactions: 9}")
    assert settings.datasets["blind"].expected == config.Statistics(users=3, items=2, interactions=9)
    assert settings.datasets["shop"].expected is None


def test_sources_with_addresses_are_fetched_and_all_others_placed():
    mirrors = ("https://a.example", "https://b.example")
    shop = config.AmazonSource(kind="amazon", release=2018, category="B")
    assert not config.is_fetched(shop) and not config.is_fetched(config.PlacedSource(kind="hm"))
    assert config.addresses(dataclasses.replace(shop, mirrors=mirrors)) == mirrors
    films = config.MovieLensSource(kind="movielens", ratings=mirrors[:1], plots=mirrors[1:], posters=mirrors[:1])
    assert config.addresses(films) == (*mirrors, mirrors[0]) and config.is_fetched(films)
    assert not config.is_fetched(config.MovieLensSource(kind="movielens"))


# --- models ------------------------------------------------------------------------------------------------------


def test_every_named_model_resolves():
    assert set(get_args(config.Model)) == set(config.MODELS.values())
    assert len(set(config.MODELS.values())) == len(config.MODELS)
    assert set(config.UNTRAINED) < set(config.MODELS.values())


def models_with(setting):
    return [name for name, kind in config.MODELS.items() if setting in {f.name for f in dataclasses.fields(kind)}]


@pytest.mark.parametrize("name", models_with("modalities"))
def test_a_repeated_modality_is_refused_for_every_multimodal_model(read, name):
    with pytest.raises(ConfigError, match=r"experiments.main.maf.options.modalities: it holds one twice$"):
        read("{model: maf}", f"{{model: {name}, options: {{modalities: [text, category, text]}}}}")


@pytest.mark.parametrize("name", models_with("modalities"))
def test_missing_modalities_are_switched_off_in_every_multimodal_model(read, name):
    settings = read("{model: maf}", f"{{model: {name}, options: {{modalities: [category, image, text]}}}}")
    for dataset, expected in (("shop", ("category", "image", "text")), ("blind", ("category", "text"))):
        assert settings.resolve(dataset, "main")[2].model.modalities == expected


@pytest.mark.parametrize("name", models_with("heads"))
def test_heads_must_divide_the_width_of_every_attention_model(read, name):
    with pytest.raises(ConfigError, match="options: heads must divide dim: 8 is no multiple of 3"):
        read("{model: maf}", f"{{model: {name}, options: {{heads: 3}}}}")


def test_missing_modalities_of_a_data_set_are_switched_off(read):
    def modalities(dataset):
        return next(e for e in read().resolve(dataset, "main") if e.name == "maf").model.modalities

    assert modalities("shop") == ("image", "text", "category")
    assert modalities("blind") == ("text", "category")


def test_an_unknown_modality_is_refused_instead_of_switched_off(read):
    with pytest.raises(ConfigError, match="modalities.0"):
        read("{model: maf}", "{model: maf, options: {modalities: [imgae]}}")


def test_an_override_wrong_on_one_data_set_is_refused_with_its_name(read):
    # heads 4 divides the default width 8 and the override 16, not 6.
    with pytest.raises(ConfigError, match="datasets.blind, experiments.narrow.sasrec.options: heads must divide dim"):
        read("{sasrec: {dim: 16}}\n    training: {epochs: 7}", "{sasrec: {heads: 8}}")


# --- every field reaches the code --------------------------------------------------------------------------------


def _sections(kind: type, found: set[type]) -> set[type]:
    """The dataclass and all those that stand behind its fields."""
    found.add(kind)
    for hint in get_type_hints(kind).values():
        stack = [hint]
        while stack:
            part = stack.pop()
            stack += get_args(part)
            if dataclasses.is_dataclass(part) and part not in found:
                _sections(part, found)
    return found


def _cells(notebook: Path) -> str:
    cells = json.loads(notebook.read_text())["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def _names_used() -> set[str]:
    """Attributes, parameters and whole strings in the code outside of mmrec.config, and in notebooks."""
    texts = [path.read_text() for path in (ROOT / "mmrec").rglob("*.py") if path.parent.name != "config"]
    texts += [_cells(path) for path in (ROOT / "notebooks").glob("*.ipynb")]
    used = set()
    for node in (node for text in texts for node in ast.walk(ast.parse(text))):
        if isinstance(node, ast.Attribute):
            used.add(node.attr)
        elif isinstance(node, ast.arg):
            used.add(node.arg)
        elif isinstance(node, ast.Constant):
            used.add(node.value)
    return used


KINDS = sorted(
    _sections(config.Config, set()) | set(config.MODELS.values()) | {config.DataControls},
    key=lambda kind: kind.__name__,
)
# There; and `kind`, the tag.
READ_BY_CONFIG = {"model", "models", "options", "experiments", "control", "needs", "data"}
BY_MODALITY = {f"{modality}_weight" for modality in ("image", "text", "category")}  # read as f"{modality}_weight"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_setting_is_used_somewhere(kind):
    fields = {field.name for field in dataclasses.fields(kind)} - READ_BY_CONFIG - BY_MODALITY - {"kind"}
    assert fields - _names_used() == set()


# --- folders -----------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.delenv("MMREC_WORK", raising=False)
    (tmp_path / "params.yaml").touch()
    (tmp_path / "notebooks" / "deep").mkdir(parents=True)
    return tmp_path


def test_the_root_is_found_from_any_folder_inside(project, monkeypatch):
    for folder in (project, project / "notebooks", project / "notebooks" / "deep"):
        monkeypatch.chdir(folder)
        assert Paths.find() == Paths(project, project)


def test_outside_of_a_project_the_message_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "is_file", lambda path: False)  # whatever lies above the tests' own folder
    with pytest.raises(ConfigError, match="no params.yaml in .* or above"):
        Paths.find()


def test_MMREC_WORK_moves_computed_files(project, tmp_path, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.setenv("MMREC_WORK", "/elsewhere")
    paths = Paths.find()
    assert paths.root == project
    assert {paths.raw("x"), paths.interim("x"), paths.processed("x"), paths.results("x")} == {
        Path(f"/elsewhere/data/{stage}/x") for stage in ("raw", "interim", "processed", "results")
    }
    assert paths.downloads("x") == Path("/elsewhere/data/downloads/x")
    assert paths.checksums == project / "references" / "checksums.json"
    assert paths.group("x", "main") == Path("/elsewhere/data/trained/x/main")
    assert paths.group("x", "fusion") == Path("/elsewhere/data/trained/x/ablations/fusion")
    assert paths.runs == Path("/elsewhere/.runs")
    assert paths.reports("x") == Path("/elsewhere/reports/x")


def test_a_relative_elsewhere_is_the_same_from_every_folder(project, monkeypatch):
    monkeypatch.setenv("MMREC_WORK", "scratch")
    for folder in (project, project / "notebooks"):
        monkeypatch.chdir(folder)
        assert Paths.find().work == project / "scratch"

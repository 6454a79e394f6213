from dataclasses import asdict, fields, replace

from mmrec import config
from mmrec.report import overview


def test_the_overview_shows_every_setting_or_a_blank(settings):
    table = overview.overview(settings.resolve("shop", "main"))
    assert table.columns.tolist() == ["popularity", "sasrec", "maf"]
    assert table.loc["model"].tolist() == ["Popularity", "SASRec", "MAF"]
    assert table.loc["dim"].tolist() == ["", "8", "8"]
    assert table.loc["modalities"].tolist() == ["", "", "image, text"]
    assert table.loc["epochs"].tolist() == ["", "2", "2"]
    assert set(asdict(settings.training)) | {field.name for field in fields(config.MAF)} < set(table.index)


def variants_of(settings, **changes):
    """Group main and a variant of MAF."""
    maf = settings.experiments["main"]["maf"]
    variant = replace(maf, control="maf", options=maf.options | changes.pop("options", {}), **changes)
    return replace(settings, experiments=settings.experiments | {"loss": {"variant": variant}})


def test_differences_are_the_settings_that_a_variant_changes(settings):
    changed = variants_of(settings, options={"text_weight": 0.7, "modalities": ("image",)}, training={"patience": 9})
    everything = changed.resolve("shop", "main") + changed.resolve("shop", "loss")
    (row,) = overview.differences(everything).itertuples(index=False)
    own = asdict(changed.resolve("shop", "main")[-1].model)
    assert tuple(row) == (
        *("loss", "variant", "maf"),
        f"modalities: image (image, text); text_weight: 0.7 ({own['text_weight']}); "
        f"patience: 9 ({settings.training.patience})",
    )
    assert [e.name for e in overview.originals(everything)] == ["popularity", "sasrec", "maf"]

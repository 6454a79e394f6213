from dataclasses import asdict, fields, replace

from mmrec import config
from mmrec.report import overview


def test_the_overview_shows_every_setting_or_a_blank(settings, capsys):
    table = overview.overview(settings.resolve("shop", "main"))
    shared = " ".join(capsys.readouterr().out.split())
    assert table.columns.tolist() == ["popularity", "sasrec", "maf"]
    assert table.loc["model"].tolist() == ["Popularity", "SASRec", "MAF"]
    assert table.loc["modalities"].tolist() == ["", "", "image, text"]
    assert "dim 8;" in shared and "epochs 2;" in shared
    told = set(table.index) | {part.split()[0] for part in shared.split(": ", 1)[1].split("; ")}
    assert set(asdict(settings.training)) | {field.name for field in fields(config.MAF)} < told


def test_a_setting_that_differs_is_in_the_table(settings, capsys):
    changed = variants_of(settings, training={"patience": 9})
    table = overview.overview(changed.resolve("shop", "main") + changed.resolve("shop", "loss"))
    assert table.loc["patience"].tolist() == ["", *[str(settings.training.patience)] * 2, "9"]
    assert "patience" not in capsys.readouterr().out


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

"""Write the tables of the documentation that are made from the code: python docs/make_tables.py"""

from pathlib import Path

from napari_metastructure.labels.kinds import KINDS
from napari_metastructure.labels.noise import NoiseSpec
from napari_metastructure.sweep.report import x_label

NOISE_KINDS = Path(__file__).with_name("noise-kinds.md")


def noise_kinds():
    """The page on the kinds of noise, made from their table."""
    lines = [
        "# Kinds of noise",
        "",
        "Made by `docs/make_tables.py` from `labels/kinds.py`; a kind added there is everywhere:",
        "in `nms.corrupt`, the dock *Corrupt labels*, the command `corrupt`, and in noise sweeps.",
        "",
        "| Kind | What it does | Parameters | In a sweep |",
        "| --- | --- | --- | --- |",
    ]
    for name, kind in KINDS.items():
        what = f"{kind.__doc__.splitlines()[0].rstrip('.')} ({kind.effect})"
        parameters = ", ".join(f"`{field}`" for field in kind.model_fields)
        swept = "" if kind.axis is None else x_label([name]) or "yes or no"
        lines.append(f"| `{name}` | {what} | {parameters} | {swept} |")
    lines += ["", "| Parameter | Default | Meaning |", "| --- | --- | --- |"]
    for name, field in NoiseSpec.model_fields.items():
        default = "" if field.is_required() or field.default is None else f"`{field.default}`"
        lines.append(f"| `{name}` | {default} | {field.description} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    NOISE_KINDS.write_text(noise_kinds(), encoding="utf-8")

"""Parameters in a file: YAML, JSON, or the record of a run."""

from pathlib import Path
from typing import Any

from napari_metastructure.files.records import load_json

__all__ = ["read_settings"]


def read_settings(path: str | Path | None) -> dict[str, Any]:
    """The parameters in a YAML or JSON file, or in the record of a run, as a dict.

    Raises
    ------
    ValueError
        If the file holds no names and values.
    """
    if path is None:
        return {}
    if Path(path).suffix == ".json":
        settings = load_json(path, "settings")
    else:
        import yaml

        try:
            settings = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except UnicodeDecodeError:
            raise ValueError(f"{path} is not a text file in UTF-8.") from None
        except RecursionError:
            raise ValueError(f"{path} is nested too deeply.") from None
        except yaml.YAMLError as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{path} is not YAML ({reason}).") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{path} should hold names and values, such as 'epochs: 20'.")
    if "operation" in settings and isinstance(settings.get("config"), dict):
        return settings["config"]
    return settings

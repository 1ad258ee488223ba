"""``python -m napari_metastructure`` is the command line."""

from napari_metastructure.cli.main import main

main()

"""``python -m napari_metastructure`` is the command line."""

from napari_metastructure.cli import main

main()

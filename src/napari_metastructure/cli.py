"""The command line: ``napari-metastructure``."""

import sys

import click

from napari_metastructure import __version__

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def commands():
    """Segmentation from cheap, noisy or missing annotations."""


@commands.command()
@click.option("--output", default="demo", show_default=True, help="Folder for the results.")
@click.option(
    "--sample",
    type=click.Choice(["er", "mitochondria", "nuclei"]),
    default="er",
    show_default=True,
    help="Sample images to work on.",
)
@click.option("--epochs", default=40, show_default=True, help="Length of each training.")
def demo(output, sample, epochs):
    """Corrupt labels, train on them and score the result, in a napari window.

    Leaves a screenshot of the window, the layers as OME-TIFF and a table of scores.
    """
    from napari_metastructure.demo import run

    run(output, sample, epochs)


def main(arguments=None):
    """Console entry point; an expected failure is one sentence and exit code 1."""
    try:
        commands.main(args=arguments, standalone_mode=True)
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)

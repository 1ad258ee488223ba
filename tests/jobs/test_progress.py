from napari_metastructure.jobs.events import Done, Progress
from napari_metastructure.jobs.job import Job
from napari_metastructure.jobs.progress import run_to_end


def test_the_bar_names_what_is_done(capsys):
    def work(job):
        yield Progress("reading the images", 0, 0)
        yield Progress("predicting", 1, 2)
        yield Done(None)

    run_to_end(Job(work))
    shown = capsys.readouterr().err
    assert "reading the images: 0step" in shown
    assert "predicting: " in shown
    assert ": :" not in shown

from napari_metastructure.jobs.events import Done, FileDone, FileProgress, Progress
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


def test_the_bar_of_files_tells_what_the_present_one_is_at(capsys):
    def work(job):
        yield FileProgress("predicting", 1, 4, 0.125, 1, 5)
        yield Progress("writing", 0, 0)
        yield FileDone({"error": None}, 2, 5)
        yield Done(None)

    run_to_end(Job(work))
    lines = capsys.readouterr().err.split("\r")
    assert "files:  20%" in next(line for line in lines if "now=predicting 25 %" in line)
    assert "now=" not in lines[-1]

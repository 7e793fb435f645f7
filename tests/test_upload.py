"""The line that uploads a submission: pasted into a shell it calls kaggle with the file that was written."""

import os
import subprocess
import zipfile

import pytest

from configs.schema import Test as Keys
from trainer.submission.upload import competition_of, upload_lines


@pytest.fixture
def pasted(tmp_path):
    """Paste a printed line into bash, where `kaggle` writes down its arguments."""
    tool = tmp_path / "bin" / "kaggle"
    tool.parent.mkdir()
    tool.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    tool.chmod(0o755)

    def command(told: list[str]) -> list[str]:
        line = told[0].removeprefix("to upload it: ")
        env = {**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}"}
        return subprocess.run(["bash", "-c", line], env=env, capture_output=True, text=True).stdout.splitlines()

    return command


@pytest.mark.parametrize("file", ["sub.csv", "a b/it's (1).csv", "$HOME/`x`;&.csv"])
def test_the_line_survives_a_shell(pasted, tmp_path, file):
    told = upload_lines(Keys(competition="titanic"), tmp_path / file, "my run")
    assert len(told) == 1
    assert pasted(told) == ["competitions", "submit", "-c", "titanic", "-f", str(tmp_path / file), "-m", "my run"]


def archive(path, **files: str) -> None:
    with zipfile.ZipFile(path, "w") as stream:
        for name, text in files.items():
            stream.writestr(f"{name}.csv", text)


def test_the_archive_that_holds_the_sample_names_the_competition(tmp_path):
    sample = tmp_path / "sample_submission.csv"
    sample.write_text("id,label\n1,0\n")
    assert competition_of(str(sample)) == "" and competition_of(None) == ""
    archive(tmp_path / "train.zip", train="x")
    archive(tmp_path / "other-year.zip", sample_submission="id,label\n1,0\n2,0\n")
    (tmp_path / "broken.zip").write_bytes(b"PK")
    assert competition_of(str(sample)) == ""
    archive(tmp_path / "dogs-vs-cats-redux-kernels-edition.zip", sample_submission="id,label\n1,0\n", train="x")
    assert competition_of(str(sample)) == "dogs-vs-cats-redux-kernels-edition"
    told = upload_lines(Keys(sample=str(sample)), tmp_path / "s.csv", "a")
    assert len(told) == 1 and "-c dogs-vs-cats-redux-kernels-edition -f" in told[0]
    archive(tmp_path / "a-copy.zip", sample_submission="id,label\n1,0\n")
    assert competition_of(str(sample)) == ""
    assert "its name in kaggle.com/competitions/…" in upload_lines(Keys(), tmp_path / "s.csv", "a")[1]

# SPDX-License-Identifier: Apache-2.0
import os
import stat

import pytest

from iclmsr.errors import IclmsrError
from iclmsr.files import whole_folder, write_atomic, write_json


def test_a_link_is_followed_and_its_target_replaced_as_a_whole(tmp_path):
    target, link = tmp_path / "there" / "it.json", tmp_path / "it.json"
    target.parent.mkdir()
    link.symlink_to("there/it.json")
    write_json(link, 1)  # the target is made
    before = target.stat().st_ino
    with target.open() as old:
        write_json(link, 2)
        assert old.read() == "1\n"
    assert target.stat().st_ino != before
    assert link.is_symlink()
    assert target.read_text() == "2\n"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["it.json", "it.json", "there"]


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_is_written_and_stays(tmp_path, linked):
    pipe = path = tmp_path / "pipe"
    os.mkfifo(pipe)
    if linked:
        path = tmp_path / "link"
        path.symlink_to(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # else opening it waits for one
    try:
        write_atomic(path, b"one, ", memoryview(b"two"))
        assert os.read(reader, 100) == b"one, two"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert path.is_symlink() == linked
    assert len(list(tmp_path.iterdir())) == 1 + linked


def test_a_folder_where_nobody_may_look(tmp_path, monkeypatch):
    def refused(self, **options):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.stat", refused)  # root may search everything
    path = tmp_path / "out"
    message = f"cannot write {path}: Permission denied: name a place that you may write to"
    with pytest.raises(IclmsrError, match=f"^{message}$"), whole_folder(path):
        pass

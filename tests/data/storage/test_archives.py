# SPDX-License-Identifier: Apache-2.0
"""Archives are read in place, by any process, and refused where a name, a link or a size cannot be trusted."""

import io
import multiprocessing
import os
import pickle
import stat
import tarfile
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcae.data.storage.archives import ArchiveFiles, open_files, read_side_file
from dcae.data.storage.files import DatasetError
from dcae.data.storage.folders import FolderFiles
from tests.data import replicas

MEMBERS = {f"{name}.bin": name.encode() * 1000 for name in "cab"}


def tar_of(*infos: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info in infos:
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    return buffer.getvalue()


def info(name: str, **fields) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size = 3
    for field, value in fields.items():
        setattr(made, field, value)
    return made


@pytest.mark.parametrize("ending", ["tar", "zip", "deflated.zip"])
def test_members_are_sorted_and_hold_what_was_packed(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    if ending == "tar":
        replicas.write(path, replicas.tar(MEMBERS))
    else:
        replicas.zipped(path, MEMBERS, zipfile.ZIP_DEFLATED if "deflated" in ending else zipfile.ZIP_STORED)
    files = ArchiveFiles([path])
    assert files.names.to_pylist() == sorted(MEMBERS)
    assert {files.name(number): files.read(number) for number in range(3)} == MEMBERS
    assert files.sizes.tolist() == [1000] * 3
    assert files.where(1) == f"{path}: member b.bin"


def test_several_archives_follow_each_other(tmp_path):
    paths = [replicas.write(tmp_path / f"{k}.tar", replicas.tar({f"{k}.bin": b"%d" % k})) for k in range(70)]
    files = ArchiveFiles(paths)
    assert [files.read(k) for k in range(70)] == [b"%d" % k for k in range(70)]


def _reads(files: ArchiveFiles, number: int) -> bytes:
    return b"".join(files.read(k) for k in [*range(number, len(files)), *range(number)])


def _forty_members(folder: Path, ending: str) -> Path:
    members = {f"{k:03}": os.urandom(5000) for k in range(40)}
    if ending == "tar":
        return replicas.write(folder / "a.tar", replicas.tar(members))
    return replicas.zipped(folder / "a.zip", members)


@pytest.mark.parametrize("ending", ["tar", "zip"])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_many_processes_read_the_same_archive(tmp_path, method, ending):
    files = ArchiveFiles([_forty_members(tmp_path, ending)])
    files.read(0)  # forked processes inherit an open archive
    tasks = [(files, number) for number in range(0, 40, 5)]
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = pool.starmap(_reads, tasks)
    assert found == [_reads(files, number) for _, number in tasks]


@pytest.mark.parametrize("ending", ["tar", "zip"])
def test_many_threads_read_the_same_archive(tmp_path, ending):
    files = ArchiveFiles([_forty_members(tmp_path, ending)])
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: _reads(files, number), range(40)))
    assert found == [_reads(files, number) for number in range(40)]


def test_an_open_archive_can_be_pickled(tmp_path):
    files = ArchiveFiles([replicas.write(tmp_path / "a.tar", replicas.tar(MEMBERS))])
    files.read(0)
    assert pickle.loads(pickle.dumps(files)).read(2) == files.read(2)


def test_the_index_is_remembered_until_the_archive_changes(tmp_path, own_cache, monkeypatch):
    path = replicas.write(tmp_path / "a.tar", replicas.tar(MEMBERS))
    first = ArchiveFiles([path])
    assert [each.name for each in tmp_path.iterdir()] == ["a.tar"], "nothing is written beside the user's files"
    assert list((own_cache / "datasets").iterdir())
    with monkeypatch.context() as patched:
        patched.setattr(tarfile, "open", lambda *_, **__: pytest.fail("indexed again"))
        assert ArchiveFiles([path]).names.equals(first.names)
    replicas.write(path, replicas.tar({"new.bin": b"1"}))
    assert ArchiveFiles([path]).names.to_pylist() == ["new.bin"]


# --- paths into zip files ---


def test_paths_lead_into_zip_files(tmp_path):
    path = replicas.zipped(
        tmp_path / "all.zip", {"x/train/1.jpg": b"1", "x/training/2.jpg": b"2", "x/labels.csv": b"3"}
    )
    assert open_files(path / "x" / "train").names.to_pylist() == ["1.jpg"]
    assert len(open_files(path)) == 3
    assert read_side_file(path / "x" / "labels.csv", "labels") == b"3"
    with pytest.raises(DatasetError, match=r"x/other\.csv: missing, needed for labels"):
        read_side_file(path / "x" / "other.csv", "labels")


def test_a_folder_named_like_a_zip_file_is_a_folder(tmp_path):
    replicas.write(tmp_path / "images.zip" / "a.jpg", b"1")
    assert isinstance(open_files(tmp_path / "images.zip"), FolderFiles)
    replicas.zipped(tmp_path / "file.zip", {"a.jpg": b"1"})
    assert isinstance(open_files(tmp_path / "file.zip"), ArchiveFiles)


def test_a_path_through_a_file_that_is_no_zip_leads_nowhere(tmp_path):
    replicas.write(tmp_path / "file", b"1")
    with pytest.raises(DatasetError, match="file/train: no such folder"):
        open_files(tmp_path / "file" / "train")


# --- what is refused ---

OUTSIDE = ["../outside.jpg", "a/../../outside.jpg", "/etc/passwd", "..\\outside.jpg", "C:\\outside.jpg"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_lead_out_of_an_archive_are_refused(tmp_path, name):
    archives = [
        replicas.write(tmp_path / "a.tar", replicas.tar({"a.jpg": b"", name: b""})),
        replicas.zipped(tmp_path / "a.zip", {"a.jpg": b"", name: b""}),
    ]
    for path in archives:
        with pytest.raises(DatasetError, match=rf"{path}: member .* has a name that leads out of the archive"):
            ArchiveFiles([path])
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.tar", "a.zip"]


def test_members_of_one_name_are_refused(tmp_path):
    twice = tar_of(info("a.jpg"), info("./a.jpg"))
    with pytest.raises(DatasetError, match=r"a\.tar: two members are named a\.jpg"):
        ArchiveFiles([replicas.write(tmp_path / "a.tar", twice)])
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.jpg", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.jpg", b"2")
    with pytest.raises(DatasetError, match=r"a\.zip: two members are named a\.jpg"):
        ArchiveFiles([tmp_path / "a.zip"])


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_special_files_in_tars_are_refused(tmp_path, kind):
    path = replicas.write(tmp_path / "a.tar", tar_of(info("b.jpg", type=kind, linkname="/etc/passwd", size=0)))
    with pytest.raises(DatasetError, match=r"member b\.jpg is a link or a special file"):
        ArchiveFiles([path])


def test_links_in_zip_files_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        link = zipfile.ZipInfo("b.jpg")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DatasetError, match=r"member b\.jpg is a link"):
        ArchiveFiles([tmp_path / "a.zip"])


def test_encrypted_and_unusually_compressed_zip_members_are_refused(tmp_path):
    path = replicas.zipped(tmp_path / "a.zip", {"a.jpg": b"1"}, zipfile.ZIP_LZMA)
    with pytest.raises(DatasetError, match=r"member a\.jpg is compressed by method 14"):
        ArchiveFiles([path])
    path = replicas.zipped(tmp_path / "b.zip", {"a.jpg": b"1"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag in the directory
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"member a\.jpg is encrypted"):
        ArchiveFiles([path])


def test_a_part_of_a_split_zip_file_is_told_how_to_join(tmp_path):
    with pytest.raises(DatasetError, match=r"a\.zip: cannot be read as a zip file .* join them: zip -s 0"):
        ArchiveFiles([replicas.write(tmp_path / "a.zip", b"no directory here" * 100)])


def test_a_compressed_tar_is_told_to_be_uncompressed(tmp_path):
    with pytest.raises(DatasetError, match=r"cannot be read as an uncompressed tar file .*uncompress it"):
        ArchiveFiles([replicas.write(tmp_path / "a.tar", replicas.tar(MEMBERS, "w:gz"))])


@pytest.mark.parametrize("kept", [0, 700, 2500])
def test_a_tar_that_is_cut_off_is_refused(tmp_path, kept):
    path = replicas.write(tmp_path / "a.tar", replicas.tar(MEMBERS)[:kept])
    with pytest.raises(DatasetError, match=f"{path}"):
        ArchiveFiles([path])


def test_a_tar_within_a_tar_that_runs_beyond_its_end_is_refused(tmp_path):
    inner = replicas.tar({"a.jpg": b"1" * 2000})[:1024]
    path = replicas.write(tmp_path / "a.tar", replicas.tar({"n01.tar": inner, "n02.tar": replicas.tar(MEMBERS)}))
    with pytest.raises(DatasetError, match=r"a\.tar: is cut off within member a\.jpg"):
        ArchiveFiles([path], nested=True)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damage_within_a_zip_member_is_found_when_it_is_read(tmp_path, method):
    path = replicas.zipped(tmp_path / "a.zip", {"a.jpg": os.urandom(1000)}, method)
    files, times = ArchiveFiles([path]), path.stat()
    data = bytearray(path.read_bytes())
    data[500] ^= 255
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(DatasetError, match=r"a\.zip: member a\.jpg: (is cut off or damaged|cannot be read)"):
        files.read(0)


def test_a_zip_file_that_was_replaced_since_is_refused(tmp_path):
    files = ArchiveFiles([replicas.zipped(tmp_path / "a.zip", MEMBERS)])
    replicas.zipped(tmp_path / "a.zip", {"other.bin": b"1" * 1000} | MEMBERS)
    with pytest.raises(DatasetError, match=r"a\.bin: cannot be read \(the archive has changed since it was indexed\)"):
        files.read(0)


def test_an_archive_that_has_shrunk_or_gone_since_is_told_of(tmp_path):
    path = replicas.write(tmp_path / "a.tar", replicas.tar(MEMBERS))
    one, other = ArchiveFiles([path]), ArchiveFiles([path])
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(DatasetError, match=r"a\.bin: is cut off or damaged"):
        one.read(0)
    path.unlink()
    with pytest.raises(DatasetError, match=r"a\.bin: cannot be read"):
        other.read(0)
    with pytest.raises(DatasetError, match=r"a\.tar: no such file"):
        ArchiveFiles([path])


def test_names_in_a_tar_that_are_not_utf_8_are_refused(tmp_path):
    data = replicas.tar({"abcde.jpg": b"1"}).replace(b"abcde", b"ab\xff\xfee")
    checksum = sum(data[:148]) + 8 * 32 + sum(data[156:512])
    path = replicas.write(tmp_path / "a.tar", data[:148] + b"%06o\0 " % checksum + data[156:])
    with pytest.raises(DatasetError, match="is not UTF-8; rename it"):
        ArchiveFiles([path])


@pytest.fixture(scope="module")
def valid():
    members = {f"n{k}/é{k}.jpg": bytes(range(200)) for k in range(3)}
    with tempfile.TemporaryDirectory() as folder:
        zips = [replicas.zipped(Path(folder) / "a.zip", members, method).read_bytes() for method in (0, 8)]
    return {"tar": replicas.tar(members), "zip": zips[0], "deflated.zip": zips[1]}


@pytest.mark.parametrize("ending", ["tar", "zip", "deflated.zip"])
def test_a_damaged_archive_is_read_or_refused_and_raises_nothing_else(valid, own_cache, ending):
    @settings(max_examples=60, deadline=None)
    @given(changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6), cut=st.booleans())
    def damaged(changes, cut):
        data = bytearray(valid[ending])
        for place, value in changes:
            data[int(place * (len(data) - 1))] = value
        if cut:
            del data[int(changes[0][0] * len(data)) :]
        path = replicas.write(own_cache / f"a.{ending}", bytes(data))
        try:
            files = ArchiveFiles([path], refresh=True)
            for number in range(len(files)):
                files.read(number)
        except DatasetError as error:
            assert str(path) in str(error)

    damaged()

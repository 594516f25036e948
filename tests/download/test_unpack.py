"""Archives unpack into their folder or not at all, whatever is in them."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from download.unpack import unpack

Zip = Callable[[dict[str, bytes]], bytes]


def tar(*members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("top", ["", "data/"])
def test_a_zip_becomes_the_folder_with_or_without_its_top_folder(zip_file: Zip, tmp_path: Path, top: str) -> None:
    archive = write(tmp_path / "data.zip", zip_file({f"{top}a/x": b"1", f"{top}y": b"2", "__MACOSX/._y": b"?"}))
    assert unpack(archive, tmp_path / "data") == [Path("a/x"), Path("y")]
    assert tree(tmp_path / "data") == {"a/x": b"1", "y": b"2"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "data.zip"]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_becomes_the_folder(tmp_path: Path, mode: str) -> None:
    members = [(tarfile.TarInfo("data/a/x"), b"1"), (tarfile.TarInfo("data/y"), b"2")]
    archive = write(tmp_path / "data.tar", tar(*members, mode=mode))
    assert unpack(archive, tmp_path / "data") == [Path("a/x"), Path("y")]
    assert tree(tmp_path / "data") == {"a/x": b"1", "y": b"2"}


def test_other_files_of_the_folder_stay(zip_file: Zip, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine").write_bytes(b"0")
    unpack(write(tmp_path / "data.zip", zip_file({"y": b"2"})), tmp_path / "data")
    assert tree(tmp_path / "data") == {"mine": b"0", "y": b"2"}


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil", "..\\evil", "C:\\evil"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_member_that_would_land_outside_is_refused(zip_file: Zip, tmp_path: Path, name: str, kind: str) -> None:
    content = zip_file({"good": b"1", name: b"2"}) if kind == "zip" else tar((tarfile.TarInfo(name), b"2"))
    archive = write(tmp_path / "archive", content)
    with pytest.raises(RuntimeError, match="would land outside of the folder"):
        unpack(archive, tmp_path / "in" / "data")
    assert tree(tmp_path) == {"archive": content}


@pytest.mark.parametrize(
    "members",
    [
        [link("out", "..")],
        [link("out", "/"), (tarfile.TarInfo("out/evil"), b"1")],
        [link("hard", "../../secret", tarfile.LNKTYPE)],
        [link("device", "", tarfile.CHRTYPE)],
    ],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    archive = write(tmp_path / "archive", tar((tarfile.TarInfo("good"), b"1"), *members))
    with pytest.raises(RuntimeError, match="is a link or a device"):
        unpack(archive, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("out")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc")
    with pytest.raises(RuntimeError, match="'out' is a link"):
        unpack(tmp_path / "a.zip", tmp_path / "data")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_bomb_is_stopped_at_the_agreed_size(zip_file: Zip, tmp_path: Path, kind: str) -> None:
    zeros = bytes(2_000_000)
    content = zip_file({"a": zeros}) if kind == "zip" else tar((tarfile.TarInfo("a"), zeros))
    archive = write(tmp_path / "archive", content)
    assert len(content) * 200 < len(zeros)
    for max_bytes, limit in ((None, len(content) * 200), (len(zeros) - 1, len(zeros) - 1)):
        with pytest.raises(RuntimeError, match=f"unpacks to more than {limit} bytes"):
            unpack(archive, tmp_path / "data", max_bytes=max_bytes)
        assert tree(tmp_path) == {"archive": content}
    assert unpack(archive, tmp_path / "data", max_bytes=len(zeros)) == [Path("a")]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_damaged_archive_leaves_nothing(zip_file: Zip, tmp_path: Path, kind: str) -> None:
    noise = bytes(range(256)) * 4
    content = bytearray(zip_file({"a": noise}) if kind == "zip" else tar((tarfile.TarInfo("a"), noise)))
    content[len(content) // 2 if kind == "tar" else 60] ^= 0xFF
    archive = write(tmp_path / "archive", bytes(content if kind == "zip" else content[:-20]))
    with pytest.raises(RuntimeError, match=r"archive cannot be unpacked: "):
        unpack(archive, tmp_path / "data")
    assert tree(tmp_path).keys() == {"archive"}


def test_an_archive_without_files_is_refused(zip_file: Zip, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="it holds no file"):
        unpack(write(tmp_path / "a.zip", zip_file({})), tmp_path / "data")

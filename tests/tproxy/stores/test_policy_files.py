"""A directory is read whole, as people keep it and as Kubernetes mounts it, and nothing in it goes unmentioned."""

from pathlib import Path

from tproxy.policy.nodes import MAX_BYTES
from tproxy.stores.policy_files import Reading, read_directory


def contents(reading: Reading) -> dict[str, bytes]:
    """Return the files by their names alone."""
    return {Path(each.name).name: each.content for each in reading.files}


def test_yaml_files_are_read_in_order_and_all_else_is_mentioned(tmp_path: Path) -> None:
    for name in ("b.yml", "a.yaml", "README.md", ".hidden.yaml", "c.yaml~"):
        (tmp_path / name).write_text(name)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "deep.yaml").write_text("deep")
    reading = read_directory(tmp_path)

    assert contents(reading) == {"a.yaml": b"a.yaml", "b.yml": b"b.yml"}
    assert [each.name for each in reading.files] == [
        str(tmp_path / "a.yaml"),
        str(tmp_path / "b.yml"),
    ]
    assert reading.skipped == (".hidden.yaml", "README.md", "c.yaml~", "tests")
    assert reading.findings == ()


def test_a_config_map_is_read_through_its_data_link(tmp_path: Path) -> None:
    version = tmp_path / "..2024_01_01"
    version.mkdir()
    (version / "a.yaml").write_text("one")
    (tmp_path / "..data").symlink_to("..2024_01_01")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    (tmp_path / "own.yaml").write_text("own")
    reading = read_directory(tmp_path)

    assert contents(reading) == {"a.yaml": b"one", "own.yaml": b"own"}
    assert (reading.findings, reading.skipped) == ((), ())


def test_what_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "directory.yaml").mkdir()
    (tmp_path / "dangling.yaml").symlink_to("nowhere")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "good.yaml").write_text("good")
    reading = read_directory(tmp_path)

    assert contents(reading) == {"good.yaml": b"good"}
    assert [str(each) for each in reading.findings] == [
        f"{tmp_path}/{name}.yaml:1:1 TPX0101 error $: is no regular file, or a link to none"
        for name in ("dangling", "directory", "loop")
    ]


def test_a_file_that_refuses_to_be_read_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to("/proc/self/mem")
    (finding,) = read_directory(tmp_path).findings

    assert str(finding) == f"{tmp_path}/a.yaml:1:1 TPX0101 error $: Input/output error"


def test_a_missing_directory_is_a_finding(tmp_path: Path) -> None:
    (finding,) = read_directory(tmp_path / "none").findings

    assert str(finding) == f"{tmp_path}/none:1:1 TPX0101 error $: No such file or directory"


def test_a_huge_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"#" * (3 * MAX_BYTES))
    (file,) = read_directory(tmp_path).files

    assert len(file.content) == MAX_BYTES + 1

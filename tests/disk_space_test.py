"""Full disks, with the device that is always full."""

import errno
from pathlib import Path

import pytest

from genrec import disk_space


def test_a_full_disk_is_found_behind_other_errors(tmp_path):
    with pytest.raises(RuntimeError) as raised:
        try:
            with Path("/dev/full").open("w") as file:
                file.write("x" * 100_000)
        except OSError as full:
            raise RuntimeError("handle is closed") from full
    message = str(disk_space.cause(raised.value, tmp_path / "not" / "there", 3_200_000_000))
    assert "free" in message and "3.2 GB" in message and str(tmp_path) in message
    mounted = message.split("file system ")[1].split()[0]
    assert str(tmp_path).startswith(mounted)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EDQUOT, "quota", "/nowhere/x"),
        ValueError('RESOURCE_EXHAUSTED: Error writing "/a/d/1": No space left on device [source locations=...]'),
    ],
)
def test_quotas_and_errors_that_come_as_text_are_full_disks(error):
    assert "space" in str(disk_space.cause(error))


def test_other_errors_are_not_full_disks():
    error = ValueError("no")
    error.__cause__ = error
    assert disk_space.cause(error) is None and disk_space.cause(FileNotFoundError(errno.ENOENT, "space")) is None


def test_a_bucket_has_no_file_system():
    assert "gs://bucket/run" in str(disk_space.cause(OSError(errno.ENOSPC, "full"), "gs://bucket/run", 10))

import pytest

from genrec.cluster import job


def example(**settings) -> job.Job:
    return job.Job(**{"name": "a", "command": "python x.py", "workdir": "gs://bucket/x", **settings})


def test_the_command_is_split_as_by_a_shell():
    assert example(command="""python 'a b' "c'd" e\\ f '$HOME'""").words == ["python", "a b", "c'd", "e f", "$HOME"]


@pytest.mark.parametrize("name", ["a", "beauty-v5e-2", "x" * 40])
def test_valid_names(name):
    assert example(name=name).name == name


@pytest.mark.parametrize("name", ["", "Beauty", "2nd", "-a", "a-", "a_b", "a.b", "x" * 41, "a\n", "a b"])
def test_invalid_names_are_refused(name):
    with pytest.raises(job.ClusterError, match="--name="):
        example(name=name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(command=""), "--command"),
        (dict(command="python 'x.py"), "python 'x.py.*quot"),
        (dict(command="python x.py && python y.py"), "'&&'.*launch/run.py"),
        (dict(command="python x.py --workdir=/tmp"), "'--workdir=/tmp'"),
        (dict(command="python x.py --distributed on"), "'--distributed'"),
        (dict(restarts=-1), "--restarts.*-1"),
        (dict(workdir=" "), "--workdir"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(job.ClusterError, match=message):
        example(**settings)


def test_bucket_and_folder_are_split():
    assert job.bucket_of("gs://my-bucket/runs/a") == ("my-bucket", "runs/a")


@pytest.mark.parametrize(
    "workdir", ["/home/me/run", "runs/a", "gs://bucket", "gs://bucket/", "s3://bucket/x", "gs:/b/x"]
)
def test_paths_outside_buckets_are_refused(workdir):
    with pytest.raises(job.ClusterError, match="gs://BUCKET/FOLDER"):
        job.bucket_of(workdir)

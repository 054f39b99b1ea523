import pytest

from genrec.cluster import job


def example(**settings) -> job.Job:
    return job.Job(**{"name": "a", "command": "python x.py", "workdir": "gs://bucket/x", **settings})


def test_the_command_is_split_as_by_a_shell():
    assert example(command="""python 'a b' "c'd" e\\ f '$HOME'""").words == ["python", "a b", "c'd", "e f", "$HOME"]


@pytest.mark.parametrize("name", ["a", "beauty-v5e-2", "x" * 40])
def test_names(name):
    assert example(name=name).name == name


@pytest.mark.parametrize("name", ["", "Beauty", "2nd", "-a", "a-", "a_b", "a.b", "x" * 41, "a\n", "a b"])
def test_names_that_clusters_do_not_take(name):
    with pytest.raises(job.ClusterError, match="not a name for a job"):
        example(name=name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(command=""), "--command is empty"),
        (dict(command="python 'x.py"), "Close every quote"),
        (dict(command="python x.py && python y.py"), "'&&': no shell runs it"),
        (dict(command="python x.py --workdir=/tmp"), "'--workdir=/tmp': leave it out"),
        (dict(command="python x.py --distributed on"), "'--distributed': leave it out"),
        (dict(restarts=-1), "--restarts=-1: give 0"),
    ],
)
def test_what_cannot_run_is_refused(settings, message):
    with pytest.raises(job.ClusterError) as error:
        example(**settings)
    assert message in str(error.value)


def test_buckets():
    assert job.bucket_of("gs://my-bucket/runs/a") == ("my-bucket", "runs/a")


@pytest.mark.parametrize(
    "workdir", ["/home/me/run", "runs/a", "gs://bucket", "gs://bucket/", "s3://bucket/x", "gs:/b/x"]
)
def test_what_is_no_folder_in_a_bucket(workdir):
    with pytest.raises(job.ClusterError, match="Give a folder in a bucket"):
        job.bucket_of(workdir)

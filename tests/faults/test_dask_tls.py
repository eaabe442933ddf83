"""Clusters behind TLS: certificates are passed through to a study's run, and wrong ones are an error in time."""

import shutil
import time

import pytest

import thalweg as tw
from tests.faults.clusters import Certificates, Cluster
from thalweg.errors import RunError
from thalweg.runs import Run, Study, find_study
from thalweg.runtime import Dask, Local

pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("tls") / "theirs")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, ours):
    made = Cluster(tmp_path_factory.mktemp("cluster"), tls=ours)
    made.add_worker()
    made.add_worker()
    yield made
    made.close()


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr("thalweg.runtime.dask.CONNECTING", 4.0)


def test_a_sum_on_a_cluster_behind_tls_has_the_bits_of_the_thread_pool(cluster, ours):
    assert cluster.address.startswith("tls://")

    def task(i):
        return {"loss": (-1.0) ** i * 10.0 ** (i % 7) / 3}

    with Local(1) as local, Dask(cluster.address, **ours.arguments) as runtime:
        assert tw.wait(runtime.map_reduce(task, range(37))) == tw.wait(local.map_reduce(task, range(37)))
        assert sum(runtime.items_by_worker.values()) == 37
        assert all(address.startswith("tls://") for address in runtime._client.scheduler_info()["workers"])


def test_a_study_passes_its_certificates_on(cluster, ours, tmp_path, monkeypatch):
    """Relative paths start at the study's folder, as all of a study do, wherever the command is called."""
    short = ["blocks.0.iterations=1", "blocks.1.iterations=1", "problem.sources.count=5", "output.figures=false"]
    whole = Study.load(find_study("inclusion"), overrides=[*short, "runtime.threads=1"])
    expected = tw.wait(Run(whole, out=tmp_path / "threads").execute())
    (tmp_path / "study" / "certificates").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    names = {}
    for key, path in ours.arguments.items():
        names[key] = f"certificates/{key}.pem"
        shutil.copy(path, tmp_path / "study" / names[key])
    table = ", ".join(f'{key} = "{name}"' for key, name in names.items())
    shutil.copy(find_study("inclusion"), tmp_path / "study" / "inclusion.toml")
    place = f'runtime={{ kind = "dask", scheduler = "{cluster.address}", {table} }}'
    monkeypatch.chdir(tmp_path / "elsewhere")
    study = Study.load(tmp_path / "study" / "inclusion.toml", overrides=[*short, place])
    found = tw.wait(Run(study, out=tmp_path / "cluster").execute())
    assert found.summary["digest"] == expected.summary["digest"]
    assert "key.pem" not in found.folder.joinpath("summary.json").read_text()


@pytest.mark.parametrize("swapped", [("ca_file",), ("cert_file", "key_file")], ids=["authority", "certificate"])
def test_certificates_of_another_authority_are_an_error_in_time(cluster, ours, theirs, soon, swapped):
    arguments = {**ours.arguments, **{name: theirs.arguments[name] for name in swapped}}
    began = time.monotonic()
    with Dask(cluster.address, **arguments) as runtime, pytest.raises(RunError, match="cannot be reached") as error:
        tw.wait(runtime.map_reduce(abs, [1]))
    assert time.monotonic() - began < 60.0
    text = str(error.value)
    assert cluster.address in text
    assert "certificate" in text
    assert "same authority" in text


def test_without_tls_a_tls_scheduler_is_an_error_in_time(cluster, soon):
    began = time.monotonic()
    with Dask(cluster.address.replace("tls://", "tcp://")) as runtime, pytest.raises(RunError, match="be reached"):
        tw.wait(runtime.map_reduce(abs, [1]))
    assert time.monotonic() - began < 60.0


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("ca_file", None, r"ca_file: .*absent\.pem.* cannot be read"),
        ("key_file", None, r"key_file: .*absent\.pem.* cannot be read"),
        ("ca_file", "no certificate", "cannot be used"),
        ("cert_file", "no certificate", "cannot be used"),
        ("key_file", "no key", "cannot be used"),
    ],
)
def test_files_that_are_none_are_named_before_anything_is_asked(ours, tmp_path, name, content, match):
    path = tmp_path / ("absent.pem" if content is None else "file.pem")
    if content is not None:
        path.write_text(content)
    began = time.monotonic()
    arguments = {**ours.arguments, name: str(path)}
    with Dask("tls://127.0.0.1:9", **arguments) as runtime, pytest.raises(RunError, match=match):
        tw.wait(runtime.start())
    assert time.monotonic() - began < 15.0  # less than connecting may take


def test_a_key_of_another_certificate_is_named(ours, theirs):
    arguments = {**ours.arguments, "key_file": theirs.key}
    with Dask("tls://127.0.0.1:9", **arguments) as runtime, pytest.raises(RunError, match="cannot be used"):
        tw.wait(runtime.start())

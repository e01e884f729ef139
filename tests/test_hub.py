"""Maps on the Hugging Face Hub, against a Hub that is a folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

import neumap
from neumap import ParametricUMAP
from neumap.archive import ArchiveError
from neumap.hub import from_pretrained, push_to_hub

hub = pytest.importorskip("huggingface_hub")

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def model() -> ParametricUMAP:
    return ParametricUMAP(preset="fast", n_epochs=1, n_neighbors=5, random_state=0).fit(X)


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hub whose repositories are folders; its calls have the signatures of the real one."""
    root = tmp_path / "service"

    class Api:
        def __init__(self, library_name: str | None = None) -> None:
            assert library_name == "neumap"

        def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> str:
            (root / repo_id).mkdir(parents=True, exist_ok=exist_ok)
            if private:
                (root / repo_id / ".private").touch()
            return f"https://huggingface.co/{repo_id}"

        def file_exists(self, repo_id: str, filename: str) -> bool:
            return (root / repo_id / filename).exists()

        def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
            assert commit_message
            for file in folder_path.iterdir():
                (root / repo_id / file.name).write_bytes(file.read_bytes())

    def download(repo_id: str, filename: str, **options: Any) -> str:
        assert options.keys() == {"revision", "cache_dir", "library_name"}
        path = root / repo_id / filename
        if not path.exists():
            import httpx2

            response = httpx2.Response(404, request=httpx2.Request("GET", "https://hub"))
            raise hub.errors.RemoteEntryNotFoundError("no such file", response=response)
        return str(path)

    monkeypatch.setattr(hub, "HfApi", Api)
    monkeypatch.setattr(hub, "hf_hub_download", download)
    return root


def test_the_calls_have_arguments_of_the_real_hub() -> None:
    import inspect

    for function, names in [
        (hub.HfApi, {"library_name"}),
        (hub.HfApi.create_repo, {"repo_id", "private", "exist_ok"}),
        (hub.HfApi.file_exists, {"repo_id", "filename"}),
        (hub.HfApi.upload_folder, {"repo_id", "folder_path", "commit_message"}),
        (
            hub.hf_hub_download,
            {"repo_id", "filename", "revision", "cache_dir", "library_name"},
        ),
    ]:
        assert names <= inspect.signature(function).parameters.keys()


def test_a_map_goes_there_and_comes_back(model: ParametricUMAP, service: Path) -> None:
    address = push_to_hub(model, "user/map", card={"prompt": "query: "})
    assert address == "https://huggingface.co/user/map"
    again = from_pretrained("user/map", device="cpu")
    np.testing.assert_array_equal(again.transform(X), model.transform(X))
    assert again.card_["notes"] == {"prompt": "query: "}
    assert not hasattr(again, "graph_")  # nothing of the data by default
    assert {file.name for file in (service / "user/map").iterdir()} == {"model.neumap", "README.md"}
    light = neumap.runtime.load(service / "user/map" / "model.neumap")
    np.testing.assert_allclose(light.transform(X), model.transform(X), atol=1e-5)


def test_more_is_published_where_asked(model: ParametricUMAP, service: Path) -> None:
    push_to_hub(model, "user/map", keep="map", private=True)
    assert from_pretrained("user/map").graph_.shape == (60, 60)
    assert (service / "user/map" / ".private").exists()


def test_the_readme_says_what_the_map_expects_and_runs(
    model: ParametricUMAP, service: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"png")
    notes = {"rows": "MiniLM | vectors <script>\n# head", "scale": [0, 1]}
    push_to_hub(model, "user/map", card=notes, picture=picture)
    text = (service / "user/map" / "README.md").read_text("utf-8")
    assert text.startswith("---\nlibrary_name: neumap\n")
    assert "| rows | MiniLM \\| vectors &lt;script> # head |" in text
    assert "| scale | \\[0, 1] |" in text
    assert "![The map](map.png)" in text
    assert "shape of a row: (4,), 4 numbers" in text
    assert (service / "user/map" / "map.png").read_bytes() == b"png"
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {"X": X}
    exec(code, names)
    np.testing.assert_array_equal(names["positions"], model.transform(X))


def test_a_readme_that_is_there_stays(model: ParametricUMAP, service: Path) -> None:
    push_to_hub(model, "user/map")
    readme = service / "user/map" / "README.md"
    readme.write_text("mine", "utf-8")
    push_to_hub(model, "user/map")
    assert readme.read_text("utf-8") == "mine"


def test_columns_are_listed(service: Path) -> None:
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame(X, columns=["a", "b|", "c", "d"])
    model = ParametricUMAP(preset="fast", n_epochs=1, n_neighbors=5).fit(table)
    push_to_hub(model, "user/table")
    assert "columns: a, b\\|, c, d" in (service / "user/table" / "README.md").read_text("utf-8")


def test_nothing_is_created_for_what_cannot_be_saved(service: Path, model: ParametricUMAP) -> None:
    with pytest.raises(NotFittedError):
        push_to_hub(ParametricUMAP(), "user/map")
    with pytest.raises(ValueError, match="card must map names"):
        push_to_hub(model, "user/map", card={"f": max})
    free = neumap.UMAP(n_epochs=1, n_neighbors=5).fit(X)
    with pytest.raises(ValueError, match="has no network"):
        push_to_hub(free, "user/map")
    assert not service.exists()


def test_a_repository_without_a_map_is_told(service: Path) -> None:
    with pytest.raises(ArchiveError, match=r"with model\.neumap, got 'user/other' without one"):
        from_pretrained("user/other")


OFFLINE = """
import numpy as np, neumap
print(neumap.hub.from_pretrained({name!r}).transform(np.zeros((1, 4))).shape)
"""


def offline(name: str, home: Path) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-c", OFFLINE.format(name=name)],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_map_in_the_cache_needs_no_network(model: ParametricUMAP, tmp_path: Path) -> None:
    """With the real library, in its offline mode."""
    repository = tmp_path / "hub" / "models--user--map"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    model.save(repository / "snapshots" / COMMIT / "model.neumap", keep="network")
    done = offline("user/map", tmp_path)
    assert "(1, 2)" in done.stdout, done.stderr
    missing = offline("user/other", tmp_path)
    assert missing.returncode == 1
    assert "HF_HUB_OFFLINE" in missing.stderr or "offline" in missing.stderr.lower()


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, model: ParametricUMAP) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r'pip install "neumap\[hub\]"'):
        push_to_hub(model, "user/map")
    with pytest.raises(ImportError, match=r'pip install "neumap\[hub\]"'):
        from_pretrained("user/map")

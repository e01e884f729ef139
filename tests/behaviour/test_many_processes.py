"""Several processes that fit together give the map of one, and end together.

Two processes of gloo are launched as torchrun would. The right answer is always the fit of one
process, in float32, in which the order of additions is the only difference.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed, nn

from neumap import UMAP, ParametricUMAP
from neumap.callbacks import Callback, load_checkpoint
from neumap.training import sharing

pytestmark = pytest.mark.skipif(
    not (distributed.is_available() and distributed.is_gloo_available()), reason="needs gloo"
)

X = np.random.default_rng(0).normal(size=(240, 64)).astype(np.float32)
X[::3] += 2.0
Y = np.arange(240) % 3

QUICK: dict[str, Any] = {
    "n_neighbors": 8,
    "random_state": 0,
    "n_epochs": 4,
    "batch_size": 63,  # 126 rows: three processes have 42 each, four do not have the same number
    "preset": "fast",
    "device": "cpu",
}


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)
    )


def network(**given: Any) -> ParametricUMAP:
    return ParametricUMAP(**{**QUICK, **given})


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return make()


ALL_TERMS: dict[str, Any] = {
    "parametric_reconstruction": True,
    "autoencoder_loss": True,
    "reconstruction_validation": X[:20],
    "global_correlation_loss_weight": 0.1,
    "densmap": True,
    "classifier_loss_weight": 1.0,
}
KINDS: dict[str, Callable[[int], UMAP]] = {
    "network": lambda rank: network(),
    "autograd": lambda rank: network(encoder="residual", batch_size=250),  # each row once
    "decoder": lambda rank: network(parametric_reconstruction=True),
    "all terms": lambda rank: network(**ALL_TERMS),
    # Each process has other weights; those of the first one count.
    "convolutions": lambda rank: network(encoder=seeded(convolutions, rank)),
    "guide": lambda rank: network(
        encoder=seeded(convolutions, rank), guide=network(n_epochs=0).fit(X)
    ),
    "free": lambda rank: UMAP(**{k: v for k, v in QUICK.items() if k != "preset"}),
}


def normalising() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 2))


def dropping() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 20), nn.ReLU(), nn.Dropout(0.5), nn.Linear(20, 2))


SMALL: dict[str, Callable[[], UMAP]] = {
    "network": network,
    "dropout": lambda: network(encoder=seeded(dropping)),
    "free": lambda: network(parametric_embedding=False),
}
NEVER_SHARED: dict[str, Callable[[], UMAP]] = {  # whatever the rule says
    "batch normalisation": lambda: network(encoder=seeded(normalising)),
}
WHOLE_STEPS = SMALL | NEVER_SHARED


def labels(kind: str) -> Any:
    return Y if kind == "all terms" else None


def in_float32() -> None:
    torch.cpu.get_capabilities = dict  # tiles of bfloat16 round at other places


WORTH_A_MESSAGE = sharing.WORTH_A_MESSAGE


def in_shares() -> None:
    """Let processes share the steps of networks for which each would take the whole step."""
    sharing.WORTH_A_MESSAGE = 0.0


def in_whole_steps() -> None:
    """Let the rule of the package decide again."""
    sharing.WORTH_A_MESSAGE = WORTH_A_MESSAGE


# ---- processes ----------------------------------------------------------------------------------

PRELUDE = """
import os, sys, datetime
sys.path[:0] = {paths!r}
import numpy as np, torch
from torch import distributed as dist
import test_many_processes as here
here.in_float32()
here.in_shares()
torch.set_num_threads(1)
rank, size, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method="file://" + folder + "/store" + sys.argv[4], rank=rank,
                        world_size=size, timeout=datetime.timedelta(seconds={wait}))
"""
WAIT = 180  # seconds after which a process gives up one that does not answer


def launch(
    folder: Path, code: str, size: int = 2, arguments: Sequence[str] = ()
) -> list[subprocess.Popen[str]]:
    """Start processes that run the same code, as torchrun does."""
    prelude = PRELUDE.format(paths=[str(Path(__file__).parent), *sys.path], wait=WAIT)
    number = str(time.monotonic_ns())
    return [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                prelude + code,
                str(rank),
                str(size),
                str(folder),
                number,
                *arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]


def ended(processes: list[subprocess.Popen[str]], seconds: float = 600) -> list[tuple[int, str]]:
    """Return exit codes and outputs of processes; none of them may hang."""
    end = time.monotonic() + seconds
    try:
        return [
            (process.returncode, "".join(output))
            for process in processes
            for output in [process.communicate(timeout=max(1.0, end - time.monotonic()))]
        ]
    finally:
        for process in processes:
            process.kill()


def ended_after_a_kill(
    processes: list[subprocess.Popen[str]],
) -> tuple[list[tuple[int, str]], float]:
    """Return codes and outputs, and the seconds for which others outlive the second process.

    Starting them is not part of it, which takes as long as a busy machine lets it.
    """
    try:
        processes[1].wait(timeout=250)
        began = time.monotonic()
        return ended(processes), time.monotonic() - began
    finally:
        for process in processes:
            process.kill()


class Recorder(Callback):
    """Keeps weights and gradients of some of the first steps, after which the training ends."""

    AT = (1, 2, 20)

    def __init__(self) -> None:
        self.found: dict[str, np.ndarray] = {}

    def on_step_end(self, run: Any) -> None:
        if run.step in self.AT:
            for name, values in run.state_dict().items():
                self.found[f"{run.step} weight {name}"] = values.detach().numpy().copy()
            for name, module in run.modules.items():
                for key, parameter in module.named_parameters():
                    if parameter.grad is not None:
                        grad = parameter.grad.numpy().copy()
                        self.found[f"{run.step} gradient {name}.{key}"] = grad
        run.stop_training = run.step == self.AT[-1]


def plain(parameters: Any) -> torch.optim.Optimizer:
    """An optimiser that does not enlarge rounding errors.

    UMAP does not depend on where the map lies, so the gradient of the last bias is nothing but
    rounding, which Adam divides by its size.
    """
    return torch.optim.SGD(parameters, lr=1e-3, momentum=0.9)


def first_steps(kind: str, rank: int) -> dict[str, np.ndarray]:
    recorder, model = Recorder(), KINDS[kind](rank)
    model.set_params(callbacks=[recorder], optimizer=plain).fit(X, labels(kind))
    return recorder.found


FIT_ALL = """
for kind in here.KINDS:
    np.savez(f"{folder}/{kind} {rank}.npz", **here.first_steps(kind, rank))
for kind, make in here.NEVER_SHARED.items():
    np.save(f"{folder}/whole steps {kind} {rank}.npy", make().fit(here.X).embedding_)
np.save(f"{folder}/whole {rank}.npy", here.network(n_epochs=1, verbose=True).fit(here.X).embedding_)
np.save(f"{folder}/short {rank}.npy", here.short().fit(here.X).embedding_)
unseeded = here.network(random_state=None, n_epochs=1).fit(here.X)
np.save(f"{folder}/unseeded {rank}.npy", unseeded.embedding_)
torch.optim.Adam([torch.zeros(1)])  # torch now imports what might keep the group
within = here.threads()
here.in_whole_steps()
for kind, make in here.SMALL.items():
    np.save(f"{folder}/whole steps {kind} {rank}.npy", make().fit(here.X).embedding_)
dist.destroy_process_group()
np.savez(f"{folder}/threads {rank}.npz", within=within, after=here.threads())
"""


def threads() -> list[str]:
    """Return the names of all threads of this process, as far as the system tells them."""
    return [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run all kinds of fits with two processes, and return the folder of their results."""
    folder = tmp_path_factory.mktemp("ranks")
    outputs = ended(launch(folder, FIT_ALL))
    assert [code for code, _ in outputs] == [0, 0], outputs
    assert "training: " in outputs[0][1]
    assert outputs[1][1] == ""  # one process shows the progress
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_take_the_steps_of_one(
    kind: str, together: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    expected = first_steps(kind, 0)
    assert any(name.startswith("2 ") for name in expected)
    found = [dict(np.load(together / f"{kind} {rank}.npz")) for rank in range(2)]
    for part in ("weight", "gradient"):
        of_part = {name: values for name, values in expected.items() if part in name}
        scale = max(np.abs(values).max() for values in of_part.values())
        for name, values in of_part.items():
            np.testing.assert_array_equal(found[0][name], found[1][name])
            np.testing.assert_allclose(found[0][name], values, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("kind", WHOLE_STEPS)
def test_whole_steps_of_each_process_are_those_of_one(
    kind: str, together: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, with the same dropout: nothing is divided or added up in another order."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    expected = WHOLE_STEPS[kind]().fit(X).embedding_
    for rank in range(2):
        found = np.load(together / f"whole steps {kind} {rank}.npy")
        np.testing.assert_array_equal(found, expected)


def test_two_processes_give_the_map_of_one_but_for_its_place(
    together: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 20 steps: later, rounding alone moves points by some hundredths of the map."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    expected = network(n_epochs=1).fit(X).embedding_
    first, second = (np.load(together / f"whole {rank}.npy") for rank in range(2))
    np.testing.assert_array_equal(first, second)
    first, expected = (found - found.mean(0) for found in (first, expected))
    assert np.abs(first - expected).max() < 1e-2 * np.abs(expected).max()


def test_without_a_seed_all_processes_take_that_of_the_first(together: Path) -> None:
    first, second = (np.load(together / f"unseeded {rank}.npy") for rank in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux")
def test_no_thread_outlives_the_process_group(together: Path) -> None:
    """One that runs while the interpreter ends may abort the process."""
    for rank in range(2):
        found = np.load(together / f"threads {rank}.npz")
        assert any("gloo" in name for name in found["within"])
        assert not any("gloo" in name for name in found["after"])


# ---- what ends a fit ----------------------------------------------------------------------------

OTHERS = """
from neumap.callbacks import Callback, TimeBudget
cases = {
    "rows": lambda: here.network().fit(here.X[: 240 - rank]),
    "numbers": lambda: here.network().fit(here.X + (0.5 * rank)),
    "parameter": lambda: here.network(n_neighbors=8 + rank).fit(here.X),
    "seed": lambda: here.network(random_state=rank).fit(here.X),
    "labels": lambda: here.network().fit(here.X, here.Y if rank else None),
    "refused rows": lambda: here.network().fit(np.where(rank == 1, np.nan, here.X)),
    "network": lambda: here.network(encoder=torch.nn.Linear(64, 2, bias=rank == 0)).fit(here.X),
    "checkpoint": lambda: here.network().fit(here.X, resume_from="none" if rank == 1 else None),
    "short batch": lambda: here.network(batch_size=1).fit(here.X),
}
for name, fit in cases.items():
    try:
        fit()
    except ValueError as error:
        print(name, "|", error)
model = here.network(max_time=0.2, n_epochs=4000).fit(here.X)
print("time |", model.report_["n_steps"])
model = here.network(callbacks=[TimeBudget(0.1)], n_epochs=4000).fit(here.X)
print("budget |", model.report_["n_steps"])
class Stop(Callback):
    def on_step_end(self, run):
        run.stop_training = rank == 1 and run.step == 7
print("stop |", here.network(callbacks=[Stop()]).fit(here.X).report_["n_steps"])
print("together |", len(here.network().fit(here.X).embedding_))
dist.destroy_process_group()
"""

MESSAGES = {
    "rows": "data and parameters, got other X. Pass",
    "numbers": "data and parameters, got other X. Pass",
    "parameter": "got other n_neighbors (9 in process 1, 8 in process 0). Pass",
    "seed": "got other random_state (1 in process 1, 0 in process 0). Pass",
    "labels": "got other y. Pass",
    "network": "got other encoder (",
    "short batch": "batch_size must be at least half of the number of processes, 3, got 1",
}
OF_ONE = {  # the message of the process that fails, and of the others
    "refused rows": ("X contains NaN", "got an error in process 1 of 3. ValueError: Input X"),
    "checkpoint": ("got no file at", "got an error in process 1 of 3. ArchiveError: "),
}


@pytest.mark.slow
def test_other_inputs_raise_in_all_processes_and_none_hangs(tmp_path: Path) -> None:
    said: list[dict[str, str]] = []
    for code, output in ended(launch(tmp_path, OTHERS, size=3)):
        assert code == 0, output
        lines = [line.split(" | ", 1) for line in output.splitlines() if " | " in line]
        said.append({line[0]: line[1] for line in lines})
    for name, message in MESSAGES.items():
        assert all(message in one[name] for one in said), (name, said)
    for name, (own, other) in OF_ONE.items():
        assert own in said[1][name]
        assert other in said[0][name]
        assert other in said[2][name]
    for name in ("time", "budget", "stop", "together"):
        assert len({one[name] for one in said}) == 1  # they end after the same step
    assert said[0]["stop"] == "7"
    assert said[0]["together"] == "240"


KILLED = """
import signal
from neumap._ranks import LostProcessError
from neumap.callbacks import Callback, Checkpoint
class Kill(Callback):
    def on_step_end(self, run):
        if rank == 1 and run.step == 20:
            os.kill(os.getpid(), signal.SIGKILL)
path, resumes = folder + "/c.neumap", sys.argv[5:] == ["resume"]
callbacks = [Checkpoint(path), *([] if resumes else [Kill()])]
model = here.short(callbacks=callbacks)
try:
    model.fit(here.X, resume_from=path if resumes else None)
except LostProcessError as error:
    print(f"lost: {error}", file=sys.stderr, flush=True)
    os._exit(1)  # gloo's own threads may abort an ordinary end
np.save(f"{folder}/resumed {rank}.npy", model.embedding_)
dist.destroy_process_group()
"""


def short(**given: Any) -> ParametricUMAP:
    """A training in which rounding has no time to grow."""
    return network(optimizer=plain, n_epochs=2, **given)


def test_a_killed_process_ends_the_others_and_the_fit_goes_on(
    together: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    ((first, output), (second, _)), seconds = ended_after_a_kill(launch(tmp_path, KILLED))
    assert seconds < WAIT / 2
    assert (first, second) == (1, -signal.SIGKILL)
    assert "lost: All processes of a fit must run until its end, got no answer" in output
    assert "resume_from" in output
    assert 0 < load_checkpoint(tmp_path / "c.neumap").step <= 20

    expected = np.load(together / "short 0.npy")  # two processes without an interruption
    alone = short().fit(X, resume_from=tmp_path / "c.neumap").embedding_
    np.testing.assert_allclose(alone, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    outputs = ended(launch(tmp_path, KILLED, arguments=["resume"]))
    assert [code for code, _ in outputs] == [0, 0], outputs
    for rank in range(2):
        np.testing.assert_array_equal(np.load(tmp_path / f"resumed {rank}.npy"), expected)


def test_the_page_runs_in_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[2] / "docs" / "many_processes.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    monkeypatch.chdir(tmp_path)
    exec(compile("\n".join(blocks), str(page), "exec"), {})
    assert np.load("positions_0.npy").shape == (1000, 2)

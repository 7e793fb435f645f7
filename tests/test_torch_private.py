"""Each private name of torch does what it is used for; one that fails says which torch has lost it."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.data import DataLoader, TensorDataset

from utils import torch_private as private

HERE = f"torch {torch.__version__} has lost what this stands for"


@pytest.fixture
def optimizer():
    return torch.optim.SGD([torch.zeros(2, requires_grad=True)], lr=0.1)


def test_lists_of_tensors_are_changed_in_place():
    ones, halves = [torch.ones(2), torch.ones(3)], [torch.full((2,), 0.5), torch.full((3,), 0.5)]
    private.foreach_lerp_(ones, halves, 0.5)
    assert all(torch.equal(t, torch.full_like(t, 0.75)) for t in ones), HERE
    private.foreach_div_(ones, 3)
    assert all(torch.equal(t, torch.full_like(t, 0.25)) for t in ones), HERE
    private.foreach_copy_(ones, halves)
    assert all(map(torch.equal, ones, halves)), HERE


def test_a_scheduler_does_not_warn_of_an_optimizer_that_steps_in_its_own_way(optimizer, recwarn):
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    private.mark_as_stepped(optimizer)
    scheduler.step()
    assert not [w for w in recwarn if "optimizer.step" in str(w.message)], HERE


def test_hooks_of_a_step_are_seen(optimizer):
    assert not private.has_step_hooks(optimizer), HERE
    for register in (
        optimizer.register_step_pre_hook,
        optimizer.register_step_post_hook,
        register_optimizer_step_pre_hook,
        register_optimizer_step_post_hook,
    ):
        handle = register(lambda *_: None)
        assert private.has_step_hooks(optimizer), HERE
        handle.remove()
        assert not private.has_step_hooks(optimizer), HERE


def test_a_profiler_is_seen():
    assert not private.profiler_runs(), HERE
    with torch.profiler.profile():
        assert private.profiler_runs(), HERE
    assert not private.profiler_runs(), HERE


def test_making_an_optimizer_does_not_import_the_compiler():
    code = """
import sys, torch
from utils.torch_private import spare_compiler
spare_compiler()
optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
optimizer.state_dict(), optimizer.load_state_dict(optimizer.state_dict()), optimizer.zero_grad()
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n", HERE + done.stderr


def test_batch_norm_is_told_from_other_layers():
    norms = [nn.BatchNorm1d(2), nn.BatchNorm2d(2), nn.SyncBatchNorm(2)]
    assert all(map(private.is_batch_norm, norms)) and not private.is_batch_norm(nn.LayerNorm(2)), HERE


def test_a_processor_is_asked_for_bf16():
    if sys.platform != "linux":
        pytest.skip("the processor's flags are read on Linux")
    flags = Path("/proc/cpuinfo").read_text()
    assert private.computes_in_bf16() == ("avx512_bf16" in flags or "amx_tile" in flags), HERE


def test_a_loader_lets_its_processes_go():
    loader = DataLoader(TensorDataset(torch.arange(4)), num_workers=1, persistent_workers=True)
    assert [int(batch[0]) for batch in loader] == [0, 1, 2, 3]
    assert private.pinning_thread(loader) is None or isinstance(private.pinning_thread(loader), threading.Thread), HERE
    (worker,) = private.worker_processes(loader)
    private.let_iterator_go(loader)
    worker.join(30)
    assert worker.exitcode is not None, HERE


def test_an_error_of_a_process_keeps_its_type():
    with pytest.raises(LookupError, match="gone"):
        private.ExceptionWrapper((LookupError, LookupError("gone"), None), "in a test").reraise()


def test_torchs_handler_for_dead_processes_is_kept_away():
    from torch.utils.data._utils import signal_handling

    before = signal_handling._SIGCHLD_handler_set
    try:
        private.keep_sigchld_handler()
        assert signal_handling._SIGCHLD_handler_set is True, HERE
    finally:
        signal_handling._SIGCHLD_handler_set = before


def test_a_part_is_put_where_another_one_is():
    """What is saved is a copy of each process's part, with the place that it has in the whole."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        divided = distribute_tensor(torch.zeros(4, 3), init_device_mesh("cpu", (1,)), [Shard(0)])
        other = private.with_part(divided, torch.ones(4, 3))
        assert (other.placements, other.device_mesh) == (divided.placements, divided.device_mesh)
        assert torch.equal(other.full_tensor(), torch.ones(4, 3)) and not divided.full_tensor().any()
    finally:
        dist.destroy_process_group()

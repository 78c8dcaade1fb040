"""How many kernels a training step launches on a GPU, counted without one: the compiler's, and with our own.

    uv run python -m benchmarks.launches --out results/launches

- compiled by block: each kind of block is lowered by torch's compiler for an H100, and the calls in its code are
  counted; outside of the blocks, operations that compute, as torch dispatches them.
- our kernels: operations and Triton kernels of a step with `kernels=triton`; the kernels themselves do not run.

Without the data and the optimizer, which are the same for both. Nothing here is a time.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torch._inductor.debug
import tyro
from torch import Tensor, nn
from torch._functorch._aot_autograd.utils import make_boxed_func
from torch._functorch.aot_autograd import aot_function
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.graph import GraphLowering
from torch._inductor.virtualized import V
from torch._subclasses import FakeTensorMode
from torch.func import functional_call
from torch.fx.passes.fake_tensor_prop import FakeTensorProp
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.writing import show
from resnetlab.networks import triton_norm
from resnetlab.networks.architecture import architecture
from resnetlab.networks.own_kernels import use_own_kernels
from resnetlab.networks.resnet import build
from resnetlab.training.captured import counted_at_once
from resnetlab.training.loop import outermost_blocks

H100 = SimpleNamespace(
    name="NVIDIA H100", major=9, minor=0, multi_processor_count=132, total_memory=80 << 30, warp_size=32,
    regs_per_multiprocessor=65536, max_threads_per_multi_processor=2048, max_threads_per_block=1024,
    L2_cache_size=50 << 20, gcnArchName="", shared_memory_per_block=49152, shared_memory_per_block_optin=232448,
    shared_memory_per_multiprocessor=233472, is_integrated=0,
)  # fmt: skip
FREE = {
    *("view", "_unsafe_view", "t", "detach", "expand", "slice", "as_strided", "unsqueeze", "squeeze", "permute"),
    *("select", "empty", "empty_like", "new_empty", "alias", "transpose", "split"),
}
"""Operations that launch nothing."""
CALLS = r"\.run\(|extern_kernels\.\w+\(|torch\.ops\.aten\.\w+\.\w+\("
KERNELS = ("_moments", "_normalise", "_gradient_sums", "_gradients")


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that compute."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, given: Sequence[Any] = (), options: dict[str, Any] | None = None
    ) -> Any:
        name = str(function).removeprefix("aten.").partition(".")[0]
        if name == "convolution_backward":
            self.seen[name] += sum(given[-1])  # one of the input, one of the weights
        elif name not in FREE:
            self.seen[name] += 1
        return function(*given, **(options or {}))


def operations(network: nn.Module, images: Tensor) -> int:
    """Operations of the forward and backward pass in bfloat16."""
    network.train()
    with counted_at_once(network, 1), Operations() as counted:
        with torch.autocast("cpu", torch.bfloat16):
            y = network(images)
        y.float().sum().backward()
    return int(counted.seen.total())


def with_ours(name: str, images: Tensor) -> int:
    """The same with our own kernels, and the optimizer's hook, which casts gradients."""
    network = build(name).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), 0.0)
    use_own_kernels(network, optimizer, torch.bfloat16)
    launched: Counter[str] = Counter()
    with ExitStack() as stack:
        for kernel in KERNELS:
            stack.enter_context(mock.patch.object(triton_norm, kernel, Counted(kernel, launched)))
        found = operations(network, images)
        with Operations() as joining:
            for hook in optimizer._optimizer_step_pre_hooks.values():
                hook(optimizer, (), {})
    return int(found + launched.total() + joining.seen.total())


class Counted:
    """A Triton kernel that counts instead of computing."""

    def __init__(self, name: str, launched: Counter[str]) -> None:
        self.name, self.launched = name, launched

    def __getitem__(self, grid: object) -> Any:
        return lambda *given, **options: self.launched.update([self.name])


@contextmanager
def as_on_an_h100() -> Iterator[None]:
    """Let the compiler believe that there is one; only code is generated."""
    with ExitStack() as stack:
        for place, found in {
            "torch.cuda.is_available": lambda: True,
            "torch.cuda._get_device_properties": lambda device=None: H100,
            "torch.cuda.get_device_properties": lambda device=None: H100,
            "torch.cuda.get_device_capability": lambda device=None: (9, 0),
            "torch.cuda.current_device": lambda: 0,
            "torch.cuda.device_count": lambda: 1,
            "torch.cuda._lazy_init": lambda: None,
            "torch._inductor.scheduler.has_triton": lambda *device: True,
            "torch.utils._triton.has_triton": lambda *device: True,
            "torch.utils._triton.triton_hash_with_backend": lambda *device: "",
            "torch._inductor.codegen.triton.triton_hash_with_backend": lambda *device: "",
        }.items():
            stack.enter_context(mock.patch(place, found, create=True))
        yield


def lowered(block: nn.Module, x: Tensor) -> int:
    """Calls in the code that torch's compiler makes of a block's forward and backward pass for an H100."""
    graphs: list[torch.fx.GraphModule] = []
    mode = FakeTensorMode(allow_non_fake_inputs=True)

    def keep(gm: torch.fx.GraphModule, example_inputs: Any) -> Any:
        graphs.append(gm)
        return make_boxed_func(gm)

    def forward(x: Tensor, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            found: Tensor = functional_call(block, {**parameters, **buffers}, (x,))
        return found

    with counted_at_once(block, 1), mode:
        parameters = {key: mode.from_tensor(p) for key, p in block.named_parameters()}
        buffers = {key: mode.from_tensor(b) for key, b in block.named_buffers()}
        traced = aot_function(
            forward,
            keep,
            keep,
            partition_fn=min_cut_rematerialization_partition,
            decompositions=select_decomp_table(),
        )
        traced(mode.from_tensor(x).requires_grad_(), parameters, buffers).sum().backward()
    return sum(_calls(graph, mode) for graph in graphs)


def _calls(graph: torch.fx.GraphModule, mode: FakeTensorMode) -> int:
    for node in graph.graph.nodes:
        if "device" in node.kwargs:
            node.update_kwarg("device", torch.device("cuda", 0))
    graph.recompile()
    with mode:
        inputs = [
            torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="cuda")
            for value in (node.meta["val"] for node in graph.graph.nodes if node.op == "placeholder")
        ]
        FakeTensorProp(graph, mode).propagate_dont_convert_inputs(*inputs)
    with as_on_an_h100():
        lowering = GraphLowering(graph, shape_env=None, example_inputs=inputs)
        debugging = V.set_debug_handler(torch._inductor.debug.DebugContext())
        with V.set_graph_handler(lowering), V.set_fake_mode(mode), debugging:
            lowering.run(*inputs)
            code, _ = lowering.codegen()
    body = code.value.partition("def call(")[2]
    both = body.count("[True, True, False]")  # gradients of the input and of the weights in one call
    return len(re.findall(CALLS, body)) + both


def by_block(name: str, batch: int) -> tuple[int, int]:
    """Of a network's blocks: calls in the compiler's code of all of them, and operations one by one."""
    network = build(name).to(memory_format=torch.channels_last).train()
    inputs: dict[nn.Module, Tensor] = {}
    blocks = outermost_blocks(network)
    for block in blocks:
        block.register_forward_pre_hook(lambda block, given: inputs.update({block: given[0].detach()}))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        network.eval()(torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last))
    network.train()
    known: dict[tuple[Any, ...], tuple[int, int]] = {}
    total = [0, 0]
    for block in blocks:
        block._forward_pre_hooks.clear()
        x = inputs[block].to(torch.bfloat16)
        kind = (tuple(x.shape), *(tuple(p.shape) for p in block.parameters()))
        if kind not in known:
            torch._dynamo.reset()
            known[kind] = lowered(block, x), operations(block, x.clone().requires_grad_())
        total = [a + b for a, b in zip(total, known[kind], strict=True)]
    return total[0], total[1]


def main(
    networks: tuple[str, ...] = (
        "cifar_resnet20",
        "cifar_resnet32",
        "cifar_resnet44",
        "cifar_resnet56",
        "cifar_resnet110",
    ),
    batch_size: int = 128,
    out: Path | None = None,
) -> None:
    """Count, print and record.

    Args:
        networks: Networks for CIFAR.
        batch_size: Images a step.
        out: Where to write the record and its page, without an ending.
    """
    torch.manual_seed(0)
    rows = {}
    for name in networks:
        images = torch.randn(2, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        all_operations = operations(build(name).to(memory_format=torch.channels_last), images)
        compiled, of_blocks = by_block(name, batch_size)
        rows[name] = {
            "compiled by block": all_operations - of_blocks + compiled,
            "our kernels": with_ours(name, images),
        }
        print(name, rows[name], flush=True)
    record = {"settings": {"batch_size": batch_size}, "torch": torch.__version__, "networks": rows}
    show(record, page(record), out)


def page(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    rows = record["networks"]
    names = list(next(iter(rows.values())))
    lines = ["# Kernels of a training step, counted without a GPU", "", "| network | " + " | ".join(names) + " |"]
    lines += ["|" + " --- |" * (1 + len(names))]
    for network, row in rows.items():
        lines.append(f"| {architecture(network).label} | " + " | ".join(str(row[name]) for name in names) + " |")
    return "\n".join(lines) + (
        "\n\nForward and backward pass in bfloat16, without the data, the loss and the optimizer. Compiled by block: "
        "calls in the code that torch's compiler makes of each block for an H100, operations outside of the blocks. "
        "Our kernels: operations and Triton kernels with `kernels=triton`, and the casts of weights and gradients. "
        f"An operation may be more than one kernel. torch {record['torch']}.\n"
    )


if __name__ == "__main__":
    tyro.cli(main)

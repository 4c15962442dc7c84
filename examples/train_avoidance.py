"""Train the example network: advice to a ship on how to pass another one.

    python examples/train_avoidance.py examples/avoidance.onnx

Two ships move straight on at the same speed. The network sees the other ship: its distance (in
units of 2 km), its bearing and its heading (both in half turns, relative to our own course), all
scaled to [-1, 1]. Its outputs are costs of three actions, `keep` the course, turn to `port` and
turn to `starboard` by 40 degrees: how close the ships come, plus a little for turning at all. The
cheapest action is the advice. Costs are computed exactly by the script; the network learns them.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

TURNS = (0.0, math.radians(40.0), math.radians(-40.0))
COST_OF_TURNING = 0.15
SAFE_DISTANCE = 0.4  # in units of 2 km: where the cost of coming close has faded to nothing
WIDTH, DEPTH = 32, 3


def costs(x: Tensor) -> Tensor:
    """Compute the costs of the actions `[..., 3]` of situations `[..., 3]`."""
    distance, bearing, heading = (x[..., 0] + 1) / 2, x[..., 1] * math.pi, x[..., 2] * math.pi
    position = distance[..., None] * torch.stack([bearing.cos(), bearing.sin()], dim=-1)
    other = torch.stack([heading.cos(), heading.sin()], dim=-1)
    result = []
    for turn in TURNS:
        own = torch.tensor([math.cos(turn), math.sin(turn)])
        velocity = other - own
        # The time of the closest approach, from now until both have gone 2 km.
        time = -(position * velocity).sum(-1) / (velocity * velocity).sum(-1).clamp(min=1e-6)
        nearest = position + velocity * time.clamp(0, 1)[..., None]
        danger = (1 - nearest.norm(dim=-1) / SAFE_DISTANCE).clamp(min=0)
        result.append(danger + COST_OF_TURNING * (turn != 0))
    return torch.stack(result, dim=-1)


def train(steps: int, seed: int) -> nn.Sequential:
    """Fit a small ReLU network, with inputs jittered so that it becomes smooth."""
    torch.manual_seed(seed)
    widths = [3, *[WIDTH] * DEPTH]
    layers: list[nn.Module] = []
    for wide_in, wide_out in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(wide_in, wide_out), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Linear(WIDTH, len(TURNS)))
    optimiser = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=3e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 8e-3, total_steps=steps)
    for _ in range(steps):
        x = torch.rand(1024, 3) * 2 - 1
        jitter = x + 0.02 * torch.randn_like(x)
        loss = (network(jitter.clamp(-1, 1)) - costs(x)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network


def export(network: nn.Sequential, path: Path) -> None:
    """Write the network as plain Gemm and Relu nodes."""
    nodes, weights, tensor = [], [], "situation"
    for index, layer in enumerate(network):
        last = index == len(network) - 1
        result = "costs" if last else f"layer{index}"
        if isinstance(layer, nn.Linear):
            for name, value in (("weight", layer.weight), ("bias", layer.bias)):
                array = value.detach().numpy().astype(np.float32)
                weights.append(numpy_helper.from_array(array, f"{name}{index}"))
            operands = [tensor, f"weight{index}", f"bias{index}"]
            nodes.append(helper.make_node("Gemm", operands, [result], f"dense{index}", transB=1))
        else:
            nodes.append(helper.make_node("Relu", [tensor], [result], f"relu{index}"))
        tensor = result
    graph = helper.make_graph(
        nodes,
        "avoidance",
        [helper.make_tensor_value_info("situation", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("costs", TensorProto.FLOAT, [1, len(TURNS)])],
        weights,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="absolver"
    )
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def main() -> None:
    """Train, say how good the network is, and write it."""
    parser = argparse.ArgumentParser(description="Train the example network.")
    parser.add_argument("output", type=Path)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    network = train(arguments.steps, arguments.seed)
    with torch.no_grad():
        x = torch.rand(100_000, 3) * 2 - 1
        truth, answer = costs(x), network(x)
    error = (answer - truth).abs().mean()
    regret = truth.gather(1, answer.argmin(1, keepdim=True))[:, 0] - truth.amin(1)
    print(f"mean error of a cost {error:.4f}, mean cost of its advice {regret.mean():.4f}")
    export(network, arguments.output)


if __name__ == "__main__":
    main()

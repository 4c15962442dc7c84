"""Train the controller of a cart on a rail, and write one step of cart and controller.

    python examples/cart/train_cart.py examples/cart/step.onnx

The cart has a position and a velocity, and wind pushes it. Five times a second the network sees
both and pushes back. It learns from a spring with friction whose force has a limit. A step of the
file takes `state` (position, velocity) and `wind` (between -1 and 1) to `next_state`.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

PERIOD = 0.2  # seconds between two steps
SPRING, FRICTION, STRONGEST = 2.0, 3.0, 3.0
WIND = 0.2
WIDTH = 8


def wanted(state: Tensor) -> Tensor:
    """Return the force of a spring with friction, within a limit."""
    force = -SPRING * state[:, :1] - FRICTION * state[:, 1:]
    return STRONGEST * torch.tanh(force / STRONGEST)


def train(steps: int, seed: int) -> nn.Sequential:
    """Fit a network without biases, so that it rests where the cart does."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Linear(2, WIDTH, bias=False), nn.Tanh(), nn.Linear(WIDTH, 1, bias=False)
    )
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=1e-2)
    for _ in range(steps):
        state = torch.rand(256, 2) * 4 - 2
        loss = (network(state) - wanted(state)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network


def export(network: nn.Sequential, path: Path) -> None:
    """Write a step: semi-implicit Euler, in float32."""
    stored = {
        "sight": network[0].weight.detach().T.numpy(),
        "strength": network[2].weight.detach().T.numpy(),
        # Velocity first: it changes by the force and the wind, and moves the cart.
        "motion": np.array([[1, 0], [PERIOD, 1]]),
        "push": np.array([[PERIOD**2, PERIOD]]),
        "gust": WIND * np.array([[PERIOD**2, PERIOD]]),
    }
    nodes = [
        helper.make_node("MatMul", ["state", "sight"], ["seen"]),
        helper.make_node("Tanh", ["seen"], ["neurons"]),
        helper.make_node("MatMul", ["neurons", "strength"], ["force"]),
        helper.make_node("MatMul", ["state", "motion"], ["moved"]),
        helper.make_node("MatMul", ["force", "push"], ["pushed"]),
        helper.make_node("MatMul", ["wind", "gust"], ["blown"]),
        helper.make_node("Sum", ["moved", "pushed", "blown"], ["next_state"]),
    ]
    graph = helper.make_graph(
        nodes,
        "cart",
        [
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [1, 2]),
            helper.make_tensor_value_info("wind", TensorProto.FLOAT, [1, 1]),
        ],
        [helper.make_tensor_value_info("next_state", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(x.astype(np.float32), name) for name, x in stored.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="absolver"
    )
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def main() -> None:
    """Train, say how good the controller is, and write the step."""
    parser = argparse.ArgumentParser(description="Train the controller of the cart.")
    parser.add_argument("output", type=Path)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    network = train(arguments.steps, arguments.seed)
    with torch.no_grad():
        state = torch.rand(10_000, 2) * 4 - 2
        error = (network(state) - wanted(state)).abs().mean()
    print(f"mean error of the force {error:.4f}")
    export(network, arguments.output)


if __name__ == "__main__":
    main()

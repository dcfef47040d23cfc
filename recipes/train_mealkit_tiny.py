"""Train the weights of `mealkit_tiny` that come with mealkit, from nothing, on CIFAR-10 images.

    python recipes/train_mealkit_tiny.py --train cifar10/train --output mealkit_tiny.v1.safetensors

The folder has one subfolder per class. A fifth of it chooses the best epoch; the test part of
CIFAR-10 is never read. The weights are stored in half precision.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from safetensors.torch import save_file

from mealkit import ImageClassifier, Training


def main(
    *, train: str, output: str, epochs: int = 60, batch_size: int = 64, lr: float = 4e-3
) -> float:
    """Train, write the body's weights, and answer with the accuracy on the validation part."""
    task = ImageClassifier.from_folders(train, backbone="mealkit_tiny", pretrained=False, split=0.1)
    training = Training(weight_decay=0.1, label_smoothing=0.1, seed=1)
    history = task.finetune(epochs=epochs, batch_size=batch_size, lr=lr, training=training)
    tensors = {
        name.removeprefix("net."): (
            value.half() if value.is_floating_point() else value
        ).contiguous()
        for name, value in task.backbone.state_dict().items()
    }
    save_file(tensors, output)
    return history.best["val/accuracy"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", help="folder with one subfolder per class")
    parser.add_argument("--output", default="mealkit_tiny.safetensors")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--quick", action="store_true", help="two epochs on digits")
    given = parser.parse_args()
    if given.quick:
        from digits_demo import write_digits

        with tempfile.TemporaryDirectory() as folder:
            write_digits(Path(folder), most=200)
            output = f"{folder}/tiny.safetensors"
            accuracy = main(train=f"{folder}/train", output=output, epochs=2)
    elif given.train is None:
        parser.error("--train is needed (or --quick)")
    else:
        accuracy = main(train=given.train, output=given.output, epochs=given.epochs)
    print(f"accuracy on the validation part {accuracy:.3f}")

"""export: write the network of a checkpoint for other programs, or a run's parts as one file.

python main.py export CHECKPOINT --format=FORMAT [--out=FILE]

CHECKPOINT is a run folder (its best, otherwise its last) or a .pth file.
FORMAT is one of

  onnx          for onnxruntime and others (needs onnx, onnxscript and
                onnxruntime: pip install onnx onnxscript onnxruntime)
  torch_export  for torch.export.load
  torchscript   for torch.jit.load, in C++, too
  safetensors   the weights alone (needs safetensors: pip install safetensors)
  pth           all of the last checkpoint, which train.shard: full writes in
                parts, as one .pth file: val, test and --load-model-path take
                it; named last.pth in a folder below checkpoints/, --resume too

Except for pth, the file takes batches of any size and gives logits. Inside
are the Normalize of the transforms, and as JSON text under the name meta.json
the names of the classes and the transforms that come before. It is read again
by its own program and compared on up to 32 validation samples; if the numbers
differ, nothing is written, and the exit code is 1.

  --out=FILE    the file (default: model.onnx, .pt2, .pt, .safetensors or .pth
                in the run folder)
"""

from collections.abc import Sequence

from commands._arguments import checkpoint_and_keys, split
from utils.config.cli import Flag
from utils.errors import ConfigError

__all__ = ["run"]

SINGLE = "pth"
NAMES = ("onnx", "torch_export", "torchscript", "safetensors", SINGLE)


def run(words: Sequence[str], flags: Sequence[Flag]) -> None:
    """Export a checkpoint. Raises ConfigError when none is named, or an unknown format."""
    options, keys = split(flags, ("format", "out"))
    checkpoint, keys = checkpoint_and_keys("export", words, keys)
    name = options.get("format", "").replace("-", "_")
    if name not in NAMES:
        given = f"--format={options['format']}: no such format" if name else "export: which format"
        raise ConfigError(f"{given}; --format= takes {', '.join(NAMES)}")
    if name == SINGLE and keys:
        raise ConfigError(f"{keys[0].typed}: --format={SINGLE} writes the checkpoint as it is, and takes no keys")
    if name == SINGLE:
        from trainer.deploy.single import export_single

        export_single(checkpoint, options.get("out"))
    else:
        from trainer.deploy.export import export

        export(checkpoint, name, options.get("out"), keys)

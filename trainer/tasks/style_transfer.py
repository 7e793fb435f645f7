"""Fast neural style transfer: a network learns to repaint any photo in the style of one picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.loss_network import VGG16Taps
from trainer.task import Row, Task, Update
from utils.config.ranges import Count, NonNegative
from utils.files import output_file
from utils.images import read_image, to_tensor, write_image
from utils.meters import Mean, Meter

if TYPE_CHECKING:
    from utils.sinks.logger import Logger

__all__ = ["StyleTransfer"]

CONTENT = 2  # taps, up to the one that the content is compared at: relu2_2
SHOWN, SIDE = 4, 128  # pairs that are shown after each validation, and the pixels of their sides


class StyleTransfer(Task):
    """Learns to keep the content of photos [B, 3, H, W] in [0, 1] and to take on the style of one picture.

    Johnson et al., "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", 2016 (book, chapter 8). Two
    pictures are alike in content where VGG16's relu2_2 is alike, and in style where the Gram matrices of relu1_2,
    relu2_2, relu3_3 and relu4_3 are. The checkpoint keeps the style, as these matrices. The network's results are in
    [0, 1] too; a batch may have labels, which are not looked at.
    """

    metrics: ClassVar[Mapping[str, str]] = {"loss": "min", "content": "min", "style": "min"}
    unsaved: ClassVar[tuple[str, ...]] = ("loss_network",)

    def __init__(
        self,
        model: nn.Module,
        style_path: str,
        weights: str,
        content_weight: NonNegative = 1e5,
        style_weight: NonNegative = 1e10,
        style_size: Count = 256,
        trained: bool = False,
        losses: bool = True,
    ):
        """`style_path`: the picture, which is shrunk until no side has more than `style_size` pixels.

        `weights` of VGG16: the path of torchvision's file, "download" to fetch it, or "none" for random features.
        `trained`: the style comes from a checkpoint, and the picture may be gone. `losses`: whether any is computed;
        without, VGG16 is not built.

        Raises ValueError for a size below 8, DataError when the picture or the weights cannot be read.
        """
        super().__init__()
        if style_size < 8:
            raise ValueError(f"style_size={style_size} is too small for VGG16, which needs 8 pixels")
        self.model = model
        self.content_weight, self.style_weight = content_weight, style_weight
        self.loss_network = VGG16Taps(weights) if losses else None
        matrices = [torch.zeros(c, c) for c in VGG16Taps.channels]
        if not trained and self.loss_network:
            matrices = _style_of(style_path, style_size, self.loss_network)
        for name, matrix in zip(VGG16Taps.names, matrices, strict=True):
            self.register_buffer(f"style_{name}", matrix)
        self.sample: Tensor  # photos and their repainted pictures, for `show`; written anew by each validation
        self.register_buffer("sample", torch.zeros(2 * SHOWN, 3, SIDE, SIDE, dtype=torch.uint8), persistent=False)

    def train_step(self, batch: Any, update: Update) -> dict[str, Tensor]:
        pictures = _pictures(batch)
        found = self.compare(pictures, self.model(pictures))
        update(found["loss"])
        return found

    def compare(self, pictures: Tensor, results: Tensor) -> dict[str, Tensor]:
        """Return the weighted terms `content` and `style` of results [B, 3, H, W], and their sum: means over B."""
        assert self.loss_network, "the task was built without losses"
        taps = self.loss_network(results)
        target = self.loss_network(pictures, CONTENT)[-1]
        content = self.content_weight * F.mse_loss(taps[CONTENT - 1].float(), target.float())
        pairs = zip(map(gram, taps), self.styles(), strict=True)
        style = self.style_weight * torch.stack([F.mse_loss(own, there.expand_as(own)) for own, there in pairs]).sum()
        return {"loss": content + style, "content": content, "style": style}

    def styles(self) -> list[Tensor]:
        """Return the Gram matrices of the style, [C, C] for each tap."""
        return [self.get_buffer(f"style_{name}") for name in VGG16Taps.names]

    def meters(self) -> dict[str, Meter]:
        return {name: Mean() for name in self.metrics}

    def val_step(self, batch: Any, meters: Mapping[str, Any]) -> None:
        pictures = _pictures(batch)
        results = self.model(pictures).float()
        for name, value in self.compare(pictures, results).items():
            meters[name].add(value, len(pictures))
        pairs = torch.stack([pictures[:SHOWN], results[:SHOWN]], 1)  # [n, 2, 3, H, W]
        small = F.interpolate(pairs.flatten(0, 1), (SIDE, SIDE), mode="bilinear", antialias=True)
        self.sample.copy_(torch.cat([(small * 255).round().byte(), self.sample])[: 2 * SHOWN])

    def test_step(self, batch: Any) -> list[Row]:
        results = (self.model(_pictures(batch)).float() * 255).round().byte().cpu()
        return [{"picture": result} for result in results]

    def show(self, logger: "Logger", step: int) -> None:
        """Show the last photos of the validation, each beside its repainted picture."""
        logger.images("styled", step, self.sample / 255)

    def generate(self, *, content_path: str, result_path: str = "stylised.png") -> str:
        """Repaint the picture at `content_path`, of any size, and write it to `result_path`.

        Raises DataError when it cannot be read or is too small, ConfigError for a name that is no picture's.
        """
        output_file("result_path", Path(result_path), [Path(result_path).suffix.lower()], read=[content_path])
        picture = to_tensor(read_image(content_path)).to(next(self.parameters()).device)
        result = self.model(picture[None])[0]
        write_image(result_path, result)
        return f"{result_path}: {content_path} repainted, {result.shape[2]} x {result.shape[1]} pixels"


def gram(features: Tensor) -> Tensor:
    """Return the Gram matrices F F^T / (C H W) of features [B, C, H, W], float32 [B, C, C]."""
    with torch.autocast(features.device.type, enabled=False):
        flat = features.float().flatten(2)  # [B, C, HW]
        return flat @ flat.transpose(1, 2) / flat[0].numel()


def _style_of(path: str, size: int, network: VGG16Taps) -> list[Tensor]:
    image = read_image(path)
    image.thumbnail((size, size))
    with torch.no_grad():
        return [gram(tap)[0] for tap in network(to_tensor(image)[None])]


def _pictures(batch: Any) -> Tensor:
    return batch[0] if isinstance(batch, (list, tuple)) else batch

"""Two networks that learn from each other: a generator makes pictures, a discriminator tells them from real ones."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.task import Task, Update
from utils.config.ranges import Count, NonNegative
from utils.errors import ConfigError

if TYPE_CHECKING:
    from utils.sinks.logger import Logger

__all__ = ["GAN"]

SHOWN = 64  # pictures that are shown, always of the same noise
AT_ONCE = 64  # pictures that `generate` makes at a time


class GAN(Task):
    """A generative adversarial network (book, chapter 7) that learns from pictures in [0, 1], with or without labels.

    The networks see and make pictures in [-1, 1]. The generator takes noise [B, nz, 1, 1] and tells its `nz`; the
    discriminator gives logits [B]. The losses, for the discriminator's logits of real and of made pictures:

    - bce: cross-entropy; the generator wants its pictures called real (Goodfellow et al., 2014).
    - hinge: real above 1, made below -1 (Lim and Ye, 2017).
    - wgan: the difference of their means; the discriminator's weights stay within ±`weight_clip` (Arjovsky et al.,
      2017).
    - wgan-gp: that difference, and `gradient_penalty` times how far its gradient is from length 1 between a real and a
      made picture (Gulrajani et al., 2017).
    """

    metrics: ClassVar[Mapping[str, str]] = {}  # no number says how good the pictures are: look at them

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: Literal["bce", "hinge", "wgan", "wgan-gp"] = "bce",
        d_every: Count = 1,
        g_every: Count = 5,
        weight_clip: NonNegative = 0.01,
        gradient_penalty: NonNegative = 10.0,
    ):
        """Let the discriminator learn at each `d_every`-th step, the generator at each `g_every`-th.

        Raises ValueError for one of them below 1, for a `weight_clip` that is not above 0, and for wgan-gp with a batch
        norm in the discriminator.
        """
        super().__init__()
        if d_every < 1 or g_every < 1 or weight_clip <= 0:
            raise ValueError("d_every and g_every must be at least 1, and weight_clip above 0")
        if loss == "wgan-gp" and any(isinstance(layer, nn.BatchNorm2d) for layer in discriminator.modules()):
            raise ValueError("wgan-gp needs a discriminator without batch norm; set model.discriminator.norm=instance")
        self.generator, self.discriminator = generator, discriminator
        self.loss, self.update_every = loss, {"discriminator": d_every, "generator": g_every}
        self.weight_clip, self.gradient_penalty = weight_clip, gradient_penalty
        self.fixed_noise: Tensor
        self.register_buffer("fixed_noise", torch.randn(SHOWN, generator.nz, 1, 1))  # type: ignore[call-overload]

    def train_step(self, batch: Any, update: Update) -> dict[str, Tensor]:
        real = (batch[0] if isinstance(batch, (list, tuple)) else batch) * 2 - 1  # [B, C, H, W] in [-1, 1]
        scalars: dict[str, Tensor] = {}
        if update.step % self.update_every["discriminator"] == 0:
            scalars |= self._teach_discriminator(real, update)
        if update.step % self.update_every["generator"] == 0:
            scalars |= self._teach_generator(real, update)
        return scalars

    def own_of_processes(self) -> Sequence[str]:
        return ["noise"]

    def show(self, logger: "Logger", step: int) -> None:
        """Show the pictures that the generator makes of the fixed noise: the same ones grow from time to time."""
        training = self.training
        with torch.no_grad():
            pictures = self.eval()._make(self.fixed_noise)
        self.train(training)
        logger.images("samples", step, pictures)

    def generate(
        self,
        *,
        gen_num: int = 64,
        gen_search_num: int = 512,
        gen_mean: float = 0.0,
        gen_std: float = 1.0,
        gen_img: str = "result.png",
    ) -> str:
        """Write a grid of the `gen_num` best of `gen_search_num` pictures to the file `gen_img`, the best first.

        The best are those that the discriminator takes most for real. The noise is normal, of mean `gen_mean` and
        deviation `gen_std`; below 1 pictures are more alike and have fewer faults.

        Raises ConfigError when more are kept than made or none is, for a deviation that is not above 0, and for a file
        name whose suffix is no picture's; StorageError when the file cannot be written.
        """
        from utils.figures.grid import picture_grid
        from utils.images import write_image

        if not 1 <= gen_num <= gen_search_num:
            raise ConfigError(
                f"generate: gen_num={gen_num} pictures cannot be chosen among gen_search_num={gen_search_num}; "
                "it must be at least 1 and at most so many"
            )
        if not (0 < gen_std < math.inf and math.isfinite(gen_mean)):
            raise ConfigError("generate: gen_std must be above 0, and gen_mean a number")
        # Drawn on the CPU, so that a GPU makes the same as a CPU, except for rounding.
        noise = gen_mean + gen_std * torch.randn(gen_search_num, *self.fixed_noise.shape[1:])
        noise = noise.to(self.fixed_noise.device)
        scores = torch.cat([self.discriminator(self.generator(part)).float() for part in noise.split(AT_ONCE)])
        best = noise[scores.topk(gen_num).indices]
        # Made once more: thousands of pictures need not be kept for it.
        pictures = torch.cat([self._make(part).cpu() for part in best.split(AT_ONCE)])
        write_image(gen_img, picture_grid(pictures.numpy()))
        return f"{gen_img}: the {gen_num} best of {gen_search_num} by the discriminator"

    def _teach_discriminator(self, real: Tensor, update: Update) -> dict[str, Tensor]:
        self._clip_weights()
        with torch.no_grad():  # the generator does not learn from this
            fake = self.generator(self._noise(real))
        d_real, d_fake = self.discriminator(real).float(), self.discriminator(fake).float()  # [B]
        loss = discriminator_loss(self.loss, d_real, d_fake)
        if self.loss == "wgan-gp":
            loss = loss + self.gradient_penalty * slope_penalty(self.discriminator, real, fake)
        update(loss, "discriminator")
        return {"d_loss": loss, "d_real": d_real.mean(), "d_fake": d_fake.mean()}

    def _teach_generator(self, real: Tensor, update: Update) -> dict[str, Tensor]:
        self._clip_weights()
        loss = generator_loss(self.loss, self.discriminator(self.generator(self._noise(real))).float())
        update(loss, "generator")
        return {"g_loss": loss}

    def _noise(self, real: Tensor) -> Tensor:
        """Return fresh noise for as many pictures as there are real ones, [B, nz, 1, 1]."""
        return torch.randn(len(real), *self.fixed_noise.shape[1:], device=real.device)

    @torch.no_grad()
    def _clip_weights(self) -> None:
        """Clip weights for wgan: before they are used, not after a step, which accumulation may take elsewhere."""
        for weight in self.discriminator.parameters() if self.loss == "wgan" else ():
            weight.clamp_(-self.weight_clip, self.weight_clip)

    def _make(self, noise: Tensor) -> Tensor:
        """Return pictures [B, C, H, W] in [0, 1]."""
        return (self.generator(noise).float() + 1) / 2


def discriminator_loss(name: str, real: Tensor, fake: Tensor) -> Tensor:
    """Return the discriminator's loss from its logits [B] for real and for made pictures."""
    if name == "bce":
        return F.softplus(-real).mean() + F.softplus(fake).mean()  # -log sigmoid(real) - log(1 - sigmoid(fake))
    if name == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return fake.mean() - real.mean()


def generator_loss(name: str, fake: Tensor) -> Tensor:
    """Return the generator's loss from the discriminator's logits [B] for its pictures."""
    return F.softplus(-fake).mean() if name == "bce" else -fake.mean()


def slope_penalty(discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """Return (gradient's length - 1)², the mean over random points between real and made pictures."""
    share = torch.rand(len(real), 1, 1, 1, device=real.device)
    between = (share * real + (1 - share) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(between).sum(), between, create_graph=True)  # [B, C, H, W]
    return (slope.float().flatten(1).norm(dim=1) - 1).square().mean()

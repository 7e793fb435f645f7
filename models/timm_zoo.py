"""timm's networks by name, fitted to other classes, channels and sizes of pictures."""

from collections.abc import Sequence

from torch import nn

from utils.config.ranges import Count
from utils.errors import ConfigError, DataError
from utils.words import reason_of

__all__ = ["timm"]


def timm(
    variant: str,
    num_classes: Count = 1000,
    in_channels: Count = 3,
    image_size: Sequence[int] | None = None,
    weights: str | None = None,
    **arguments: object,
) -> nn.Module:
    """Build any network of timm by its name, as timm:resnet50 or timm:resnet50.a1_in1k, with its weights on request.

    With `weights` ("DEFAULT") the published file is read, and downloaded if necessary; those of a file come by
    train.load_model_path. A network that is made for one size of pictures is made for `image_size`, [height, width].
    Further arguments go to timm. The network maps (B, in_channels, H, W) to (B, num_classes) logits.

    Raises:
        ConfigError: an argument that the network does not take, or an unknown word for weights.
        DataError: the weights can neither be found nor downloaded.
    """
    import timm as library  # an extra: not everybody has it

    if weights not in (None, "DEFAULT"):
        raise ConfigError(f"model.weights: expected DEFAULT, got '{weights}'; a file is --load-model-path={weights}")
    published = library.get_pretrained_cfg(variant)
    if image_size and published is not None and published.fixed_input_size:
        arguments = {"img_size": tuple(image_size)} | arguments
    try:
        return library.create_model(
            variant, pretrained=weights is not None, num_classes=num_classes, in_chans=in_channels, **arguments
        )
    except OSError as error:
        reason = reason_of(error).partition(". ")[0]
        raise DataError(
            f"the weights of timm:{variant} cannot be loaded ({reason}); fetch the file of https://huggingface.co/timm "
            "by hand, and name it: --load-model-path=FILE"
        ) from error
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise ConfigError(f"timm:{variant} cannot be built: {reason_of(error)}") from error

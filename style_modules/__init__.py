"""The three losses of neural style transfer."""

from style_modules.content_loss import ContentLoss
from style_modules.style_loss import StyleLoss
from style_modules.tv_loss import TotalVariationLoss

__all__ = ["ContentLoss", "StyleLoss", "TotalVariationLoss"]

"""Task 3: class model visualization (Simonyan et al., 2014; regularized as by Yosinski et al., 2015)."""

import random
from collections.abc import Mapping, Sequence

import torch
from PIL import Image
from torch import Tensor, nn

from helpers.image_utils import SQUEEZENET_MEAN, SQUEEZENET_STD, deprocess
from visualizers.mechanisms import frozen_eval


class ClassVisualization:
    """What would a picture look like that the network is as sure of as it can be?"""

    @staticmethod
    def jitter(X: Tensor, ox: int, oy: int) -> Tensor:
        """Shifts images (N, C, H, W) by ox pixels to the right and oy down, wrapping around."""
        return torch.roll(X, shifts=(oy, ox), dims=(2, 3))

    @staticmethod
    def blur_image(X: Tensor, sigma: float = 1) -> Tensor:
        """Blurs images (N, C, H, W) in place with a Gaussian of `sigma` pixels; returns X."""
        from scipy.ndimage import gaussian_filter1d  # imported here: the other techniques need no SciPy

        pixels = X.detach().cpu().numpy()
        for axis in (2, 3):
            pixels = gaussian_filter1d(pixels, sigma, axis=axis)
        X.data.copy_(torch.from_numpy(pixels))
        return X

    def create_class_visualization(
        self,
        target_y: int,
        class_names: Mapping[int, str] | Sequence[str],
        model: nn.Module,
        dtype: torch.dtype | type | None = None,
        *,
        l2_reg: float = 1e-3,
        learning_rate: float = 25,
        num_iterations: int = 100,
        blur_every: int = 10,
        max_jitter: int = 16,
        show_every: int = 25,
        generate_plots: bool = True,
    ) -> Image.Image:
        """Gradient ascent from noise to a picture of class `target_y`: max over I of s_y(I) - l2_reg * ||I||_2^2.

        Each step sees the image shifted by up to `max_jitter` pixels; then its pixels are clamped to the
        valid range; every `blur_every` steps it is blurred a little, against high frequencies. With
        `generate_plots` the image at step 1 and every `show_every` steps is written to
        visualization/class_visualization_iter_T.png.
        `dtype`: a torch dtype or an old-style tensor type; by default the model's own.

        Returns the picture. Raises IndexError for a class that the model does not have.
        """
        like = next(model.parameters())
        img = torch.randn(1, 3, 224, 224)
        img = (img.to(like) if dtype is None else img.type(dtype)).requires_grad_()
        mean, std = (torch.as_tensor(v).to(img)[:, None, None] for v in (SQUEEZENET_MEAN, SQUEEZENET_STD))
        with frozen_eval(model):
            for t in range(num_iterations):
                ox, oy = random.randint(0, max_jitter), random.randint(0, max_jitter)
                img.data.copy_(self.jitter(img.data, ox, oy))
                # 1. The objective: the raw score of class target_y minus l2_reg times the sum of squares of img.
                # 2. g, the gradient of the whole objective with respect to img. It must not pile up over the steps.
                # 3. A step of length learning_rate along g, in place: I <- I + learning_rate * g / ||g||_2.
                ### BEGIN SOLUTION
                score = model(img)[0, target_y]
                objective = score - l2_reg * img.square().sum()
                (g,) = torch.autograd.grad(objective, img)
                img.data += learning_rate * g / g.norm().clamp(min=1e-12)
                ### END SOLUTION
                img.data.copy_(self.jitter(img.data, -ox, -oy))
                img.data.clamp_(-mean / std, (1 - mean) / std)
                if t % blur_every == 0:
                    self.blur_image(img.data, sigma=0.5)
                if generate_plots and (t == 0 or (t + 1) % show_every == 0 or t == num_iterations - 1):
                    # Imported here: drawing is loaded only where it is asked for.
                    from helpers.figures import Cell, save_grid

                    title, subtitle = class_names[target_y], f"iteration {t + 1} of {num_iterations}"
                    cell = Cell(deprocess(img), title, subtitle)
                    save_grid(f"visualization/class_visualization_iter_{t + 1}.png", [[cell]])
        return deprocess(img)

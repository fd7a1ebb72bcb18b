"""Right implementations that are written differently from ours: each must get full marks.

Another order of the arithmetic, other functions, loops, operations in place, and the idioms of the published
assignment: Variable, .data, backward() with X.grad, hooks, ReLUs that are replaced and not put back.
"""

import textwrap

from grading.mistakes import Correct, Patch

SALIENCY, GRADCAM = "visualizers/saliency_map.py", "visualizers/gradcam.py"
CLASS = "visualizers/class_visualization.py"
CONTENT, STYLE, TV = (f"style_modules/{name}_loss.py" for name in ("content", "style", "tv"))
TRANSFER = "style_utils.py"


def _one(id: str, operation: str, *patches: Patch) -> Correct:
    return Correct(f"{operation}-{id}", (operation,), patches)


def _saliency(id: str, code: str) -> Correct:
    return _one(id, "saliency", Patch(SALIENCY, code, region=0))


def _cam(id: str, code: str, scores: str = "gc_model(X).gather(1, y[:, None])") -> Correct:
    start = f"scores = {scores}\nactivations = outputs[layer]\n"
    return _one(id, "grad_cam", Patch(GRADCAM, start + textwrap.dedent(code), region=1))


def _climb(id: str, code: str) -> Correct:
    return _one(id, "class_visualization", Patch(CLASS, code, region=0))


def _content(id: str, code: str) -> Correct:
    return _one(id, "content", Patch(CONTENT, code, region=0))


def _gram(id: str, code: str) -> Correct:
    return Correct(f"gram-{id}", ("gram", "style"), (Patch(STYLE, code, region=0),))


def _style(id: str, code: str) -> Correct:
    return _one(id, "style", Patch(STYLE, code, region=1))


def _tv(id: str, code: str) -> Correct:
    return _one(id, "tv", Patch(TV, code, region=0))


def _loop(id: str, code: str) -> Correct:
    return _one(id, "update_rule", Patch(TRANSFER, code, region=0))


PUBLISHED_SALIENCY = '''
import torch
from torch.autograd import Variable


class SaliencyMap:
    def compute_saliency_maps(self, X, y, model):
        """As the published assignment lays it out: tensors made Variables, backward(), X.grad."""
        model.eval()
        X_var = Variable(X.clone(), requires_grad=True)
        y_var = Variable(y)
        scores = model(X_var)
        correct = scores.gather(1, y_var.view(-1, 1)).squeeze(1)
        correct.backward(torch.ones(correct.shape[0]))
        saliency, _ = torch.max(X_var.grad.data.abs(), dim=1)
        return saliency

    def show_saliency_maps(self, X, y, class_names, model):
        pass
'''

PUBLISHED_GRADCAM = """
import torch
import torch.nn.functional as F


class CustomReLU(torch.autograd.Function):
    @staticmethod
    def forward(self, x):
        output = torch.addcmul(torch.zeros(x.size()), x, (x > 0).type_as(x))
        self.save_for_backward(x, output)
        return output

    @staticmethod
    def backward(self, y):
        x, _ = self.saved_tensors
        positive = (x > 0).type_as(y) * (y > 0).type_as(y)
        return torch.addcmul(torch.zeros(x.size()), y, positive)


class GradCam:
    def guided_backprop(self, X_tensor, y_tensor, gc_model):
        for param in gc_model.parameters():
            param.requires_grad = True
        for idx, item in gc_model.features._modules.items():
            if item.__class__.__name__ == "Fire":
                for part in ("squeeze_activation", "expand1x1_activation", "expand3x3_activation"):
                    item._modules[part] = CustomReLU.apply
            elif item.__class__.__name__ == "ReLU":
                gc_model.features._modules[idx] = CustomReLU.apply
        for idx, item in gc_model.classifier._modules.items():
            if item.__class__.__name__ == "ReLU":
                gc_model.classifier._modules[idx] = CustomReLU.apply
        X = torch.autograd.Variable(X_tensor.clone(), requires_grad=True)
        scores = gc_model(X)
        one_hot = torch.zeros_like(scores)
        for n in range(scores.shape[0]):
            one_hot[n, y_tensor[n]] = 1
        scores.backward(one_hot)
        return X.grad.permute(0, 2, 3, 1).numpy()

    def grad_cam(self, X_tensor, y_tensor, gc_model):
        module = gc_model.features[12]
        self.gradient_value = None
        self.activation_value = None

        def gradient_hook(a, b, gradient):
            self.gradient_value = gradient[0]

        def activation_hook(a, b, activation):
            self.activation_value = activation

        module.register_forward_hook(activation_hook)
        module.register_full_backward_hook(gradient_hook)
        for param in gc_model.parameters():
            param.requires_grad = True
        scores = gc_model(X_tensor)
        gc_model.zero_grad()
        scores[range(len(y_tensor)), y_tensor].sum().backward()
        alphas = self.gradient_value.mean(3).mean(2)
        cams = []
        for n in range(X_tensor.shape[0]):
            cam = torch.zeros(self.activation_value.shape[2:])
            for k in range(alphas.shape[1]):
                cam += alphas[n, k] * self.activation_value.data[n, k]
            cam = F.relu(cam)[None, None]
            cam = F.interpolate(cam, size=X_tensor.shape[2:], mode="bilinear", align_corners=False)[0, 0]
            if cam.max() > 0:
                cam = cam / cam.max()
            cams.append(cam)
        return torch.stack(cams).detach().numpy()
"""

PUBLISHED_CLASS = """
import random

import torch
from scipy.ndimage import gaussian_filter1d
from torch.autograd import Variable

from helpers.image_utils import SQUEEZENET_MEAN, SQUEEZENET_STD, deprocess


class ClassVisualization:
    @staticmethod
    def jitter(X, ox, oy):
        if ox != 0:
            left = X[:, :, :, :-ox]
            right = X[:, :, :, -ox:]
            X = torch.cat([right, left], dim=3)
        if oy != 0:
            top = X[:, :, :-oy]
            bottom = X[:, :, -oy:]
            X = torch.cat([bottom, top], dim=2)
        return X

    @staticmethod
    def blur_image(X, sigma=1):
        X_np = X.cpu().clone().numpy()
        X_np = gaussian_filter1d(X_np, sigma, axis=2)
        X_np = gaussian_filter1d(X_np, sigma, axis=3)
        X.copy_(torch.Tensor(X_np).type_as(X) if X.dtype == torch.float32 else torch.from_numpy(X_np))
        return X

    def create_class_visualization(self, target_y, class_names, model, dtype, **kwargs):
        model.type(dtype)
        l2_reg = kwargs.pop("l2_reg", 1e-3)
        learning_rate = kwargs.pop("learning_rate", 25)
        num_iterations = kwargs.pop("num_iterations", 100)
        blur_every = kwargs.pop("blur_every", 10)
        max_jitter = kwargs.pop("max_jitter", 16)

        img = torch.randn(1, 3, 224, 224).mul_(1.0).type(dtype)
        img_var = Variable(img, requires_grad=True)
        for t in range(num_iterations):
            ox, oy = random.randint(0, max_jitter), random.randint(0, max_jitter)
            img_var.data.copy_(self.jitter(img_var.data, ox, oy))

            scores = model(img_var)
            target = scores[:, target_y] - l2_reg * torch.norm(img_var) ** 2
            target.backward()
            dX = learning_rate * img_var.grad.data / torch.norm(img_var.grad.data)
            img_var.data += dX
            img_var.grad.data.zero_()

            img_var.data.copy_(self.jitter(img_var.data, -ox, -oy))
            for c in range(3):
                lo = float(-SQUEEZENET_MEAN[c] / SQUEEZENET_STD[c])
                hi = float((1.0 - SQUEEZENET_MEAN[c]) / SQUEEZENET_STD[c])
                img_var.data[:, c].clamp_(min=lo, max=hi)
            if t % blur_every == 0:
                self.blur_image(img_var.data, sigma=0.5)
        return deprocess(img_var.data.cpu())
"""

PUBLISHED_CONTENT = """
import torch
import torch.nn as nn


class ContentLoss(nn.Module):
    def __init__(self):
        super(ContentLoss, self).__init__()

    def forward(self, content_weight, content_current, content_original):
        _, C, H, W = content_current.shape
        F = content_current.view(C, H * W)
        P = content_original.view(C, H * W)
        return content_weight * torch.sum(torch.pow(F - P, 2))
"""

PUBLISHED_STYLE = """
import torch
import torch.nn as nn


class StyleLoss(nn.Module):
    def __init__(self):
        super(StyleLoss, self).__init__()

    def gram_matrix(self, features, normalize=True):
        N, C, H, W = features.size()
        features = features.view(N, C, -1)
        gram = torch.bmm(features, features.permute(0, 2, 1))
        if normalize:
            gram /= float(H * W * C)
        return gram

    def forward(self, feats, style_layers, style_targets, style_weights):
        style_loss = 0.0
        for i in range(len(style_layers)):
            current = self.gram_matrix(feats[style_layers[i]].clone())
            style_loss += style_weights[i] * torch.sum((current - style_targets[i]) ** 2)
        return style_loss
"""

PUBLISHED_TV = """
import torch
import torch.nn as nn


class TotalVariationLoss(nn.Module):
    def forward(self, img, tv_weight):
        N, C, H, W = img.shape
        loss = 0
        for c in range(C):
            x = img[0, c]
            loss = loss + torch.sum((x[1:, :] - x[: H - 1, :]) ** 2) + torch.sum((x[:, 1:] - x[:, : W - 1]) ** 2)
        return tv_weight * loss
"""

PUBLISHED_TRANSFER = """
import torch
from PIL import Image

from helpers.image_utils import preprocess


def features_from_img(imgpath, imgsize, cnn, dtype):
    img = preprocess(Image.open(imgpath), size=imgsize)
    img_var = img.type(dtype)
    return extract_features(img_var, cnn), img_var


def extract_features(x, cnn):
    features = []
    prev_feat = x
    for i, module in enumerate(cnn._modules.values()):
        next_feat = module(prev_feat)
        features.append(next_feat)
        prev_feat = next_feat
    return features


def style_transfer(name, content_image, style_image, image_size, style_size, content_layer, content_weight,
                   style_layers, style_weights, tv_weight, content_loss, style_loss, tv_loss, cnn, dtype,
                   init_random=False, testing=False):
    feats, content_img = features_from_img(content_image, image_size, cnn, dtype)
    content_target = feats[content_layer].clone()
    feats, style_img = features_from_img(style_image, style_size, cnn, dtype)
    style_targets = []
    for idx in style_layers:
        style_targets.append(style_loss.gram_matrix(feats[idx].clone()))
    if init_random:
        img = torch.Tensor(content_img.size()).uniform_(0, 1)
    else:
        img = content_img.clone().type(dtype)
    img_var = torch.autograd.Variable(img, requires_grad=True)
    initial_lr = 3.0
    decayed_lr = 0.1
    decay_lr_at = 180
    optimizer = torch.optim.Adam([img_var], lr=initial_lr)
    for t in range(200):
        if t < 190:
            img_var.data.clamp_(-1.5, 1.5)
        optimizer.zero_grad()
        feats = extract_features(img_var, cnn)
        c_loss = content_loss(content_weight, feats[content_layer], content_target)
        s_loss = style_loss(feats, style_layers, style_targets, style_weights)
        t_loss = tv_loss(img_var, tv_weight)
        loss = t_loss + s_loss + c_loss
        loss.backward(retain_graph=True)
        if t == decay_lr_at:
            optimizer = torch.optim.Adam([img_var], lr=decayed_lr)
        optimizer.step()
    return img_var.data
"""

VARIANTS = [
    _one("published", "saliency", Patch(SALIENCY, PUBLISHED_SALIENCY)),
    _saliency(
        "backward",
        """
        scores = model(X)
        scores[torch.arange(len(y)), y].sum().backward()
        saliency = X.grad.data.abs().max(dim=1)[0]
        """,
    ),
    _saliency(
        "one-hot",
        """
        scores = model(X)
        one_hot = torch.nn.functional.one_hot(y, scores.shape[1]).to(scores)
        scores.backward(gradient=one_hot)
        saliency = torch.maximum(X.grad.amax(dim=1), -X.grad.amin(dim=1))
        """,
    ),
    _saliency(
        "loop",
        """
        saliency = []
        for n in range(len(X)):
            image = X[n : n + 1].detach().clone().requires_grad_()
            model(image)[0, y[n]].backward()
            saliency.append(image.grad[0].abs_().max(0).values)
        saliency = torch.stack(saliency, dim=0)
        """,
    ),
    _saliency(
        "squares",
        """
        (gradient,) = torch.autograd.grad(model(X)[range(len(X)), y], X, torch.ones(len(X)))
        saliency = (gradient ** 2).max(1).values.sqrt()
        """,
    ),
    Correct("gradcam-published", ("grad_cam", "guided_backprop"), (Patch(GRADCAM, PUBLISHED_GRADCAM),)),
    # As most files of earlier years have it: the network's blocks are torchvision's.
    _one(
        "torchvision-fire",
        "guided_backprop",
        Patch(
            GRADCAM,
            "from torchvision.models.squeezenet import Fire\n"
            + PUBLISHED_GRADCAM.replace('item.__class__.__name__ == "Fire"', "isinstance(item, Fire)"),
        ),
    ),
    _cam(
        "sum-pooling",
        """
        (gradients,) = torch.autograd.grad(scores.sum(), activations)
        alpha = gradients.sum(dim=(2, 3), keepdim=True)
        cam = F.relu((alpha * activations).sum(dim=1, keepdim=True))
        """,
    ),
    _cam(
        "einsum",
        """
        (gradients,) = torch.autograd.grad(scores, activations, torch.ones_like(scores))
        cam = torch.einsum("nkij,nkab->nab", gradients, activations)[:, None] / gradients[0, 0].numel()
        cam = cam.clamp_(min=0)
        """,
    ),
    _cam(
        "loop",
        """
        activations.retain_grad()
        scores.sum().backward()
        cam = torch.zeros_like(activations[:, :1])
        for n in range(len(X)):
            for k in range(activations.shape[1]):
                cam[n, 0] += activations.grad[n, k].mean() * activations[n, k]
        cam = torch.max(cam, torch.zeros_like(cam))
        """,
        scores="gc_model(X)[torch.arange(len(X)), y]",
    ),
    _cam(
        "adaptive-pooling",
        """
        gradients = torch.autograd.grad(outputs=scores.sum(), inputs=activations)[0]
        alpha = F.adaptive_avg_pool2d(gradients, 1).flatten(1)
        cam = torch.bmm(alpha[:, None], activations.flatten(2)).reshape(len(X), 1, *activations.shape[2:]).relu()
        """,
    ),
    _one(
        "masks",
        "guided_backprop",
        Patch(
            GRADCAM,
            """
            gradient = gradient.clone()
            gradient[gradient < 0] = 0
            gradient[x <= 0] = 0
            return gradient
            """,
            region=0,
        ),
    ),
    _one(
        "backward",
        "guided_backprop",
        Patch(
            GRADCAM,
            """
            gc_model(X)[range(len(X)), y_tensor].sum().backward()
            guided = torch.movedim(X.grad, 1, -1)
            """,
            region=2,
        ),
    ),
    _one("published", "class_visualization", Patch(CLASS, PUBLISHED_CLASS)),
    _climb(
        "backward",
        """
        if img.grad is not None:
            img.grad.zero_()
        score = model(img)[0, target_y]
        (score - l2_reg * torch.norm(img) ** 2).backward()
        with torch.no_grad():
            img += learning_rate * img.grad / img.grad.norm()
        """,
    ),
    _climb(
        "gradient-by-hand",
        """
        (g,) = torch.autograd.grad(model(img).squeeze(0)[target_y], img)
        g -= 2 * l2_reg * img.data
        img.data.add_(g.div_((g * g).sum().sqrt()), alpha=learning_rate)
        """,
    ),
    _climb(
        "negative-loss",
        """
        loss = l2_reg * (img * img).sum() - model(img)[:, target_y].sum()
        img.grad = None
        loss.backward()
        img.data -= learning_rate * (img.grad.data / torch.linalg.vector_norm(img.grad.data))
        """,
    ),
    _climb(
        "new-tensor",
        """
        (g,) = torch.autograd.grad(model(img)[0, target_y] - l2_reg * img.pow(2).sum(), img)
        img = (img.data + learning_rate * g / g.norm()).requires_grad_()
        """,
    ),
    _one("published", "content", Patch(CONTENT, PUBLISHED_CONTENT)),
    _content(
        "mse-sum",
        """
        from torch.nn import functional
        return content_weight * functional.mse_loss(content_current, content_original, reduction="sum")
        """,
    ),
    _content(
        "mse-times-size",
        """
        from torch import nn
        return content_weight * content_current.numel() * nn.MSELoss()(content_current, content_original)
        """,
    ),
    _content(
        "in-place",
        """
        difference = content_current.clone()
        difference -= content_original
        return difference.pow_(2).mul_(content_weight).sum()
        """,
    ),
    _content(
        "norm-squared",
        "return content_weight * (content_original.data - content_current).norm() ** 2",
    ),
    _content(
        "expanded",
        """
        F, P = content_current.flatten().double(), content_original.flatten().double()
        return content_weight * (F @ F - 2 * F @ P + P @ P)
        """,
    ),
    Correct("style-published", ("gram", "style"), (Patch(STYLE, PUBLISHED_STYLE),)),
    _gram(
        "einsum",
        """
        import torch
        N, C, H, W = features.shape
        gram = torch.einsum("nchw,ndhw->ncd", features, features)
        return gram.div(C * H * W) if normalize else gram
        """,
    ),
    _gram(
        "loop",
        """
        import torch
        grams = []
        for F in features:
            F = F.flatten(1)
            grams.append(F.mm(F.t()) / F.numel() if normalize else F.mm(F.t()))
        return torch.stack(grams)
        """,
    ),
    _gram(
        "divided-first",
        """
        N, C, H, W = features.shape
        F = features.contiguous().view(N, C, -1)
        if normalize:
            F = F / (C * H * W) ** 0.5
        return F.matmul(F.mT)
        """,
    ),
    _gram(
        "broadcast",
        """
        gram = (features[:, :, None] * features[:, None]).sum(dim=(-1, -2))
        if normalize:
            gram = gram / features[0].numel()
        return gram
        """,
    ),
    _style(
        "mse-sum",
        """
        from torch.nn.functional import mse_loss
        return sum(
            style_weights[i] * mse_loss(self.gram_matrix(feats[layer]), style_targets[i], reduction="sum")
            for i, layer in enumerate(style_layers)
        )
        """,
    ),
    _style(
        "in-place",
        """
        import torch
        loss = torch.zeros(1, dtype=feats[0].dtype)
        for i in range(len(style_layers)):
            difference = self.gram_matrix(feats[style_layers[i]])
            difference -= style_targets[i]
            loss += style_weights[i] * (difference ** 2).sum()
        return loss
        """,
    ),
    _style(
        "backwards",
        """
        import torch
        terms = []
        for i in reversed(range(len(style_layers))):
            gram = self.gram_matrix(feats[style_layers[i]], normalize=True)
            terms.append(torch.tensor(style_weights[i]).to(gram) * torch.dist(gram, style_targets[i]) ** 2)
        return torch.stack(terms).sum()
        """,
    ),
    _one("published", "tv", Patch(TV, PUBLISHED_TV)),
    _tv(
        "diff",
        "return tv_weight * (img.diff(dim=2).pow(2).sum() + img.diff(dim=3).pow(2).sum())",
    ),
    _tv(
        "loop",
        """
        N, C, H, W = img.shape
        loss = 0
        for i in range(H):
            for j in range(W):
                if i + 1 < H:
                    loss = loss + ((img[:, :, i + 1, j] - img[:, :, i, j]) ** 2).sum()
                if j + 1 < W:
                    loss = loss + ((img[:, :, i, j + 1] - img[:, :, i, j]) ** 2).sum()
        return tv_weight * loss
        """,
    ),
    _tv(
        "roll-without-seam",
        """
        down = (img - img.roll(-1, dims=2))[:, :, :-1]
        right = (img - img.roll(-1, dims=3))[..., :-1]
        return tv_weight * (down * down).sum() + tv_weight * (right * right).sum()
        """,
    ),
    _tv(
        "in-place",
        """
        from torch.nn.functional import mse_loss
        loss = mse_loss(img[:, :, 1:], img[:, :, :-1], reduction="sum")
        loss += mse_loss(img[..., 1:], img[..., :-1], reduction="sum")
        loss *= tv_weight
        return loss
        """,
    ),
    _one("published", "update_rule", Patch(TRANSFER, PUBLISHED_TRANSFER)),
    _loop(
        "zero-after-step",
        """
        loss = tv_loss(img, tv_weight) + style_loss(feats, style_layers, style_targets, style_weights)
        loss += content_loss(content_weight, feats[content_layer], content_target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        """,
    ),
    _loop(
        "three-backward-passes",
        """
        img.grad = None
        tv_loss(img, tv_weight).backward()
        style_loss(feats, style_layers, style_targets, style_weights).backward(retain_graph=True)
        content_loss(content_weight, feats[content_layer], content_target).backward()
        optimizer.step()
        """,
    ),
    _loop(
        "autograd",
        """
        losses = [
            content_loss(content_weight, content_target, feats[content_layer]),
            style_loss(feats, style_layers, style_targets, style_weights),
            tv_loss(img, tv_weight),
        ]
        (img.grad,) = torch.autograd.grad(sum(losses), img)
        optimizer.step()
        """,
    ),
    _loop(
        "looks-again",
        """
        optimizer.zero_grad(set_to_none=False)
        feats = extract_features(img, cnn)
        loss = sum((
            content_loss(content_weight, feats[content_layer], content_target.detach()),
            style_loss(feats, style_layers, style_targets, style_weights),
            tv_loss(img, tv_weight),
        ))
        loss.backward()
        optimizer.step()
        """,
    ),
    _saliency(
        "list-of-variables",
        """
        from torch.autograd import Variable
        images = [Variable(X[n : n + 1].data.clone(), requires_grad=True) for n in range(X.shape[0])]
        if torch.cuda.is_available():
            images, model = [image.cuda() for image in images], model.cuda()
        for image, c in zip(images, y.tolist()):
            model(image)[0, c].backward()
        saliency = torch.cat([image.grad.data.abs().max(dim=1)[0] for image in images])
        """,
    ),
    _saliency(
        "zeroed-in-place",
        """
        if X.grad is not None:
            X.grad.zero_()
        model.zero_grad()
        torch.sum(model(X)[torch.arange(X.size(0)), y]).backward()
        saliency, _ = torch.max(torch.abs(X.grad), dim=1)
        """,
    ),
    _one(
        "hooks-removed",
        "grad_cam",
        Patch(
            GRADCAM,
            """
            def grad_cam(self, X_tensor, y_tensor, gc_model):
                kept = {}
                last = gc_model.features[-1]
                handles = [
                    last.register_forward_hook(lambda m, i, o: kept.update(A=o.detach())),
                    last.register_full_backward_hook(lambda m, i, o: kept.update(g=o[0].detach())),
                ]
                X = X_tensor.clone().requires_grad_(True)
                gc_model.eval()
                scores = gc_model(X)
                one_hot = torch.zeros_like(scores).scatter_(1, y_tensor.view(-1, 1), 1.0)
                (scores * one_hot).sum().backward()
                for handle in handles:
                    handle.remove()
                cam = torch.relu((kept["g"].mean((2, 3), keepdim=True) * kept["A"]).sum(1, keepdim=True))
                cam = F.interpolate(cam, X.shape[2:], mode="bilinear", align_corners=False).squeeze(1).numpy()
                for n in range(len(cam)):
                    peak = cam[n].max()
                    if peak > 0:
                        cam[n] /= peak
                return cam
            """,
            function="GradCam.grad_cam",
        ),
    ),
    _one(
        "tensor-hook",
        "grad_cam",
        Patch(
            GRADCAM,
            """
            def grad_cam(self, X_tensor, y_tensor, gc_model):
                grads = []
                for p in gc_model.parameters():
                    p.requires_grad_(True)
                A = gc_model.features(X_tensor)
                A.register_hook(grads.append)
                scores = gc_model.classifier(A).flatten(1)
                scores.gather(1, y_tensor.unsqueeze(1)).sum().backward()
                cams = []
                for a, g in zip(A.detach(), grads[0]):
                    cam = torch.clamp(torch.tensordot(g.mean(dim=(1, 2)), a, dims=1), min=0)
                    cam = F.interpolate(cam[None, None], size=X_tensor.shape[-2:], mode="bilinear")[0, 0]
                    cams.append((cam / cam.max() if cam.max() > 0 else cam).cpu().numpy())
                return np.stack(cams)
            """,
            function="GradCam.grad_cam",
        ),
    ),
    _one(
        "backward-hooks",
        "guided_backprop",
        Patch(
            GRADCAM,
            """
            def guided_backprop(self, X_tensor, y_tensor, gc_model):
                handles = []
                for module in gc_model.modules():
                    if isinstance(module, nn.ReLU):
                        module.inplace = False
                        handles.append(
                            module.register_full_backward_hook(lambda m, grad_in, grad_out: (grad_in[0].clamp(min=0),))
                        )
                X = X_tensor.detach().clone().requires_grad_()
                gc_model(X)[torch.arange(len(X)), y_tensor].sum().backward()
                for handle in handles:
                    handle.remove()
                return X.grad.permute(0, 2, 3, 1).contiguous().cpu().numpy()
            """,
            function="GradCam.guided_backprop",
        ),
    ),
    _gram(
        "einsum-in-double-precision",
        """
        import torch
        F = features.double().flatten(2)
        gram = torch.einsum("bip,bjp->bij", F, F)
        if normalize:
            gram = gram / torch.tensor(features.shape[1:]).prod()
        return gram.to(features.dtype)
        """,
    ),
    _style(
        "own-gram",
        """
        total = 0
        for number, target, weight in zip(style_layers, style_targets, style_weights):
            F = feats[number].flatten(2)
            total = total + weight * ((F @ F.mT / feats[number][0].numel() - target) ** 2).sum()
        return total
        """,
    ),
    _tv(
        "guarded-gpu",
        """
        import torch
        if torch.cuda.is_available():
            img = img.cuda()
        rows, columns = torch.diff(img, dim=-2), torch.diff(img, dim=-1)
        return torch.mul(rows.norm() ** 2 + columns.norm() ** 2, tv_weight)
        """,
    ),
    _climb(
        "no-grad",
        """
        img.requires_grad_(True)
        loss = model(img)[:, target_y].mean() - l2_reg * torch.sum(torch.pow(img, 2))
        loss.backward(retain_graph=True)
        with torch.no_grad():
            grad = img.grad.clone()
            img.copy_(img + learning_rate * torch.div(grad, torch.norm(grad, p=2)))
            img.grad.zero_()
        """,
    ),
    _loop(
        "rate-set-each-step",
        """
        for group in optimizer.param_groups:
            group["lr"] = RATE if t < DECAY_AT else DECAYED_RATE
        optimizer.zero_grad()
        terms = [content_loss(content_weight, feats[content_layer], content_target)]
        terms.append(style_loss(feats, style_layers, style_targets, style_weights))
        terms.append(tv_loss(img, tv_weight))
        torch.stack([term.reshape(()) for term in terms]).sum().backward()
        optimizer.step()
        """,
    ),
]

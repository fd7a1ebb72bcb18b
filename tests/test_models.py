"""The networks: our SqueezeNet is torchvision's, a narrow one scores as the whole one, and starting up stays light."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from torchvision.models import SqueezeNet1_1_Weights

from helpers.data_utils import class_names
from helpers.models import SqueezeNet, load_classifier, only_classes, working_copy

ROOT = Path(__file__).resolve().parent.parent


def test_our_squeezenet_is_torchvisions_child_by_child():
    torch.manual_seed(0)
    theirs = torchvision.models.squeezenet1_1(weights=None).eval()
    ours = SqueezeNet().eval()
    assert [name for name, _ in ours.named_modules()] == [name for name, _ in theirs.named_modules()]
    assert str(ours.features) == str(theirs.features)
    assert str(ours.classifier) == str(theirs.classifier)
    assert type(ours.features[3]).__name__ == "Fire"
    ours.load_state_dict(theirs.state_dict())
    X = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        assert torch.equal(ours(X), theirs(X))
    theirs.load_state_dict(SqueezeNet().state_dict())


def test_random_weights_keep_the_size_of_signals():
    torch.manual_seed(0)
    scores = SqueezeNet(10).eval()(torch.randn(4, 3, 64, 64))
    assert scores.shape == (4, 10)
    assert 0.05 < scores.std() < 50


def test_the_class_names_are_torchvisions():
    assert class_names() == SqueezeNet1_1_Weights.IMAGENET1K_V1.meta["categories"]


def test_a_narrow_network_scores_its_classes_as_the_whole_one(net, photos):
    y = torch.tensor([967, 282, 967, 3, 282, 0])
    before = {name: value.clone() for name, value in net.state_dict().items()}
    narrow, places = only_classes(net, y)
    assert narrow(photos).shape == (6, 4)
    X = photos.clone().requires_grad_()
    results = []
    for model, k in ((net, y), (narrow, places)):
        scores = model(X).gather(1, k[:, None])
        results.append((scores.detach(), *torch.autograd.grad(scores.sum(), X)))
    for whole, some in zip(*results, strict=True):
        torch.testing.assert_close(some, whole, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert (
        narrow.features[0].weight is not net.features[0].weight
    )  # what is done to one leaves the other alone


def test_a_narrow_network_has_no_other_classes(net):
    with pytest.raises(IndexError, match="class 1000 does not exist: there are 0 to 999"):
        only_classes(net, torch.tensor([3, 1000]))
    with pytest.raises(IndexError, match="class -1"):
        only_classes(net, torch.tensor([-1]))


def test_another_network_is_left_as_it_is(tiny):
    y = torch.tensor([4, 1])
    assert only_classes(tiny, y) == (tiny, y)


def test_a_working_copy_has_torchvisions_blocks_for_code_that_looks_for_them(net, photos):
    narrow, _ = only_classes(net, torch.tensor([282, 967]))
    copied = working_copy(narrow)
    assert isinstance(copied.features[3], torchvision.models.squeezenet.Fire)
    assert not copied.training
    with torch.no_grad():
        assert torch.equal(copied(photos[:2]), narrow(photos[:2]))
        copied.features[0].weight.zero_()
    assert narrow.features[0].weight.any()


def test_a_working_copy_of_another_network_is_a_copy(tiny):
    copied = working_copy(tiny)
    copied[0].weight.data.zero_()
    assert tiny[0].weight.any()
    assert [type(child) for child in copied] == [type(child) for child in tiny]


def test_a_default_run_loads_neither_torchvision_nor_dynamo(tmp_path):
    code = (
        "import sys\n"
        "from helpers.models import load_classifier, load_features\n"
        "import saliency_visualization\n"
        "load_classifier(), load_features()\n"
        "assert not saliency_visualization.main(['--images', 'coffee', '--size', '64', '--output', sys.argv[1]])\n"
        "print([m for m in ('torchvision', 'torch._dynamo', 'skimage') if m in sys.modules])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "x.png")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_another_network_by_name():
    assert load_classifier("resnet18", "random")(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)

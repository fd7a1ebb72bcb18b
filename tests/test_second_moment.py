"""The fast product under the Gram matrix is the written-out one, value and gradient."""

import pytest
import torch
from torch.autograd import gradcheck

from extras.painter.second_moment import second_moment


def written_out(features):
    """M_kl = sum_p F_kp F_lp, image by image."""
    return torch.stack([torch.einsum("khw,lhw->kl", image, image) for image in features])


def maps(*shape, layout=torch.contiguous_format, dtype=torch.float32):
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).relu()
    return x.to(dtype=dtype, memory_format=layout)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["first", "last"])
@pytest.mark.parametrize(
    "shape", [(1, 5, 9, 7), (2, 4, 3, 6), (1, 3, 1, 1), (1, 300, 5, 4), (2, 256, 2, 3)], ids=str
)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)]
)
def test_value_and_gradient_are_those_of_the_written_out_sum(shape, layout, dtype, tolerance):
    x = maps(*shape, layout=layout, dtype=dtype).requires_grad_()
    # Not symmetric: a gradient that took D for D^T would be found.
    D = torch.randn(shape[0], shape[1], shape[1], generator=torch.Generator().manual_seed(1)).double()
    value = second_moment(x)
    assert value.dtype == torch.promote_types(dtype, torch.float32)
    (gradient,) = torch.autograd.grad(value, x, D.to(value.dtype))
    exact = x.detach().double().requires_grad_()
    expected = written_out(exact)
    (slope,) = torch.autograd.grad(expected, exact, D)
    for ours, theirs in ((value, expected), (gradient, slope)):
        torch.testing.assert_close(
            ours.double(), theirs, rtol=0, atol=tolerance * max(1.0, float(theirs.detach().abs().max()))
        )


def test_it_passes_the_finite_differences():
    assert gradcheck(second_moment, (maps(2, 3, 4, 5, dtype=torch.float64).requires_grad_(),))

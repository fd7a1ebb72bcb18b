"""Looking into a trained network: one technique a module, tensors in, tensors out."""

from visualizers.class_visualization import ClassVisualization
from visualizers.fooling_image import FoolingImage
from visualizers.gradcam import GradCam
from visualizers.saliency_map import SaliencyMap

__all__ = ["ClassVisualization", "FoolingImage", "GradCam", "SaliencyMap"]

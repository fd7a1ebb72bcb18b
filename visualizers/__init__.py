"""The three graded techniques that look into a trained network: tensors in, maps and pictures out."""

from visualizers.class_visualization import ClassVisualization
from visualizers.gradcam import GradCam
from visualizers.saliency_map import SaliencyMap

__all__ = ["ClassVisualization", "GradCam", "SaliencyMap"]

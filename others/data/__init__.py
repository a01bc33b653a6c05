"""Images to train on and to measure with: pixels, the course's files, noises, scenes, photographs, own patches."""

from .camera_pairs import CameraPairs, camera_validation
from .course import load_pairs
from .patches import Patches, held_out, side_by_side
from .photos import PhotoPairs, load_photo, photo_files, photo_validation
from .pixels import Pair, check_images, check_pairs, computable, to_pixels, to_unit
from .scenes import Scene, generated, generated_pairs, generated_validation

__all__ = [
    "CameraPairs",
    "Pair",
    "Patches",
    "PhotoPairs",
    "Scene",
    "camera_validation",
    "check_images",
    "check_pairs",
    "computable",
    "generated",
    "generated_pairs",
    "generated_validation",
    "held_out",
    "load_pairs",
    "load_photo",
    "photo_files",
    "photo_validation",
    "side_by_side",
    "to_pixels",
    "to_unit",
]

"""The numbers of the detection tables of the paper (Appendices A and B), with their data. Percentages."""

from dataclasses import dataclass

VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
BASELINE = "baseline"
REFINED = "+ box refinement"
CONTEXT = "+ context"
SCALES = "+ multi-scale testing"
ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class PrintedDetection:
    """One result: `map50` at IoU 0.5, and `ap` over IoU 0.5 to 0.95; `classes` in the order of VOC_CLASSES."""

    table: int
    method: str
    network: str
    """Our name of the network; empty where it is not one of ours."""
    data: str
    map50: float
    ap: float | None = None
    classes: tuple[float, ...] = ()


VOC07, VOC12 = "VOC 07+12, tested on VOC 2007 test", "VOC 07++12, tested on VOC 2012 test"
COCO_VAL, COCO_TEST = "COCO train, tested on val", "COCO trainval, tested on test-dev"
DET_VAL, DET_TEST = "ImageNet DET, val2", "ImageNet DET, test"
WITH_COCO07, WITH_COCO12 = f"COCO and {VOC07}", f"COCO and {VOC12}"
ALL = "baseline+++"

TABLE7 = (
    PrintedDetection(7, BASELINE, "vgg16", VOC07, 73.2),
    PrintedDetection(7, BASELINE, "resnet101", VOC07, 76.4),
    PrintedDetection(7, BASELINE, "vgg16", VOC12, 70.4),
    PrintedDetection(7, BASELINE, "resnet101", VOC12, 73.8),
)
TABLE8 = (
    PrintedDetection(8, BASELINE, "vgg16", COCO_VAL, 41.5, 21.2),
    PrintedDetection(8, BASELINE, "resnet101", COCO_VAL, 48.4, 27.2),
)
TABLE9 = (
    PrintedDetection(9, BASELINE, "vgg16", COCO_VAL, 41.5, 21.2),
    PrintedDetection(9, BASELINE, "resnet101", COCO_VAL, 48.4, 27.2),
    PrintedDetection(9, REFINED, "resnet101", COCO_VAL, 49.9, 29.9),
    PrintedDetection(9, CONTEXT, "resnet101", COCO_VAL, 51.1, 30.0),
    PrintedDetection(9, CONTEXT, "resnet101", COCO_TEST, 53.3, 32.2),
    PrintedDetection(9, SCALES, "resnet101", COCO_VAL, 53.8, 32.5),
    PrintedDetection(9, SCALES, "resnet101", COCO_TEST, 55.7, 34.9),
    PrintedDetection(9, ENSEMBLE, "resnet101", COCO_TEST, 59.0, 37.4),
)


def _classes(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split())


TABLE10 = (
    PrintedDetection(
        10, BASELINE, "vgg16", VOC07, 73.2,
        classes=_classes(
            "76.5 79.0 70.9 65.5 52.1 83.1 84.7 86.4 52.0 81.9 65.7 84.8 84.6 77.5 76.7 38.8 73.6 73.9 83.0 72.6"
        ),
    ),
    PrintedDetection(
        10, BASELINE, "resnet101", VOC07, 76.4,
        classes=_classes(
            "79.8 80.7 76.2 68.3 55.9 85.1 85.3 89.8 56.7 87.8 69.4 88.3 88.9 80.9 78.4 41.7 78.6 79.8 85.3 72.0"
        ),
    ),
    PrintedDetection(
        10, ALL, "resnet101", WITH_COCO07, 85.6,
        classes=_classes(
            "90.0 89.6 87.8 80.8 76.1 89.9 89.9 89.6 75.5 90.0 80.7 89.6 90.3 89.1 88.7 65.4 88.1 85.6 89.0 86.8"
        ),
    ),
)  # fmt: skip
TABLE11 = (
    PrintedDetection(
        11, BASELINE, "vgg16", VOC12, 70.4,
        classes=_classes(
            "84.9 79.8 74.3 53.9 49.8 77.5 75.9 88.5 45.6 77.1 55.3 86.9 81.7 80.9 79.6 40.1 72.6 60.9 81.2 61.5"
        ),
    ),
    PrintedDetection(
        11, BASELINE, "resnet101", VOC12, 73.8,
        classes=_classes(
            "86.5 81.6 77.2 58.0 51.0 78.6 76.6 93.2 48.6 80.4 59.0 92.1 85.3 84.8 80.7 48.1 77.3 66.5 84.7 65.6"
        ),
    ),
    PrintedDetection(
        11, ALL, "resnet101", WITH_COCO12, 83.8,
        classes=_classes(
            "92.1 88.4 84.8 75.9 71.4 86.3 87.8 94.2 66.8 89.4 69.2 93.9 91.9 90.9 89.6 67.9 88.2 76.8 90.3 80.0"
        ),
    ),
)  # fmt: skip
TABLE12 = (
    PrintedDetection(12, "GoogLeNet (ILSVRC'14)", "", DET_TEST, 43.9),
    PrintedDetection(12, "single model", "resnet101", DET_VAL, 60.5),
    PrintedDetection(12, "single model", "resnet101", DET_TEST, 58.8),
    PrintedDetection(12, ENSEMBLE, "resnet101", DET_VAL, 63.6),
    PrintedDetection(12, ENSEMBLE, "resnet101", DET_TEST, 62.1),
)
TABLES = {7: TABLE7, 8: TABLE8, 9: TABLE9, 10: TABLE10, 11: TABLE11, 12: TABLE12}

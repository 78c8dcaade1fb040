"""A peer for serving.py: torchvision's network behind a FastAPI handler, as tutorials have it."""

import sys

import torch
import torchvision
import uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image
from torchvision.transforms import v2

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main(weights: str, name: str, port: int, threads: int) -> None:
    """Serve at a port of this machine."""
    torch.set_num_threads(threads)
    network = torchvision.models.get_model(name)
    network.load_state_dict(torch.load(weights, weights_only=True))
    network.eval()
    pixels = [v2.PILToTensor(), v2.Resize(256), v2.CenterCrop(224)]
    prepare = v2.Compose([*pixels, v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
    app = FastAPI()

    @app.post("/predict")
    def predict(file: UploadFile) -> list[tuple[int, float]]:
        with torch.inference_mode():
            image = prepare(Image.open(file.file).convert("RGB"))
            found = network(image[None]).softmax(1)[0].topk(5)
        return list(zip(found.indices.tolist(), found.values.tolist(), strict=True))

    uvicorn.run(app, port=port, log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))

"""Networks in use: fast engines, and the classes of image files."""

from resnetlab.inference.predict import Prediction as Prediction
from resnetlab.inference.predict import predict as predict

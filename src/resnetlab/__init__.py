"""Deep Residual Learning for Image Recognition (He, Zhang, Ren, Sun, 2015): every network and experiment."""

from resnetlab.errors import ResnetlabError as ResnetlabError
from resnetlab.inference.engines import open_engine as open_engine
from resnetlab.inference.predict import predict as predict
from resnetlab.models.importing import import_weights as import_weights
from resnetlab.models.modelfile import Model as Model
from resnetlab.models.modelfile import load as load
from resnetlab.models.modelfile import save as save
from resnetlab.networks.resnet import Architecture as Architecture
from resnetlab.networks.resnet import ResNet as ResNet
from resnetlab.networks.resnet import architecture as architecture
from resnetlab.networks.resnet import build as build

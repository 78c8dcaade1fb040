"""What is trained: the networks of the paper, and what they cost."""

from resnetlab.networks.measure import layer_costs as layer_costs
from resnetlab.networks.measure import multiply_adds as multiply_adds
from resnetlab.networks.measure import parameter_count as parameter_count
from resnetlab.networks.measure import stage_table as stage_table
from resnetlab.networks.resnet import NAMES as NAMES
from resnetlab.networks.resnet import Architecture as Architecture
from resnetlab.networks.resnet import ResNet as ResNet
from resnetlab.networks.resnet import architecture as architecture
from resnetlab.networks.resnet import build as build
from resnetlab.networks.resnet import check_image_size as check_image_size
from resnetlab.networks.resnet import with_options as with_options

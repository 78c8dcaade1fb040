"""Networks with all it takes to use them: the model file, other people's files in, other people's formats out."""

from resnetlab.models.modelfile import Model as Model
from resnetlab.models.modelfile import load as load
from resnetlab.models.modelfile import save as save

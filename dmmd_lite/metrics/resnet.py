"""The residual networks for CIFAR-10 of He et al. (arXiv 1512.03385, section 4.2), for weights trained
elsewhere. Names of weights are those of akamaster/pytorch_resnet_cifar10."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu

RESNETS = {"resnet20": 3, "resnet56": 9}  # architecture: blocks in each of the three stages
IMAGE_SHAPE = (32, 32, 3)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of each channel in the training of those weights


class _Block(nn.Module):
    """Two convolutions and a shortcut, which skips pixels and fills new channels with zeros (option A)."""

    def __init__(self, channels: int, out: int, stride: int):
        super().__init__()
        self.stride, self.new = stride, out - channels
        self.conv1 = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x[:, :, :: self.stride, :: self.stride]
        shortcut = pad(shortcut, (0, 0, 0, 0, self.new // 2, self.new // 2))
        return relu(self.bn2(self.conv2(relu(self.bn1(self.conv1(x))))) + shortcut)


class ResNet(nn.Module):
    """A network with stages of 16, 32 and 64 channels; features are the 64 averages before the last layer."""

    image_shape, dim, num_classes = IMAGE_SHAPE, 64, 10

    def __init__(self, blocks: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        stages = []
        for channels, out, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2)):
            stage = [_Block(channels, out, stride), *(_Block(out, out, 1) for _ in range(blocks - 1))]
            stages.append(nn.Sequential(*stage))
        self.layer1, self.layer2, self.layer3 = stages
        self.linear = nn.Linear(64, 10)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """Compute features [n, 64] of images [n, 3, 32, 32] with values in [0, 1]."""
        h = relu(self.bn1(self.conv1((images - self.mean) / self.std)))
        return self.layer3(self.layer2(self.layer1(h))).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Compute class logits [n, 10]."""
        return self.linear(self.features(images))

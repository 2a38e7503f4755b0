#!/usr/bin/env python3
"""Records what PyTorch computes for the image models of docs/numerics.md: three AdamW steps of small models, into images_*.json beside this
file. Needs torch 2 and numpy; nothing here is shared with the C++ sources.

    OMP_NUM_THREADS=1 python3 tests/golden/record_images.py

Files are like record_gpt2.py's, but without gradients in f32, and with also
  states      running statistics after the last step (f64, f32);
  evaluation  summed loss and hits of the batch of step 3 afterwards.
Names and layouts are ours: a filter of torch, [K, C, R, S], is recorded as [K, R, S, C], and the first dense layer reads images with
channels innermost. A batch norm of torch sees micro-batches of norm_samples samples in the order of samples.
"""

import os

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from record_gpt2 import RandomStream, STEPS, check_philox, learning_rate, summary, to_json

COMMON = dict(clip=0.25, lr=0.01, min_lr=0.001, warmup=1, weight_decay=0.1, beta1=0.9, beta2=0.95, eps=1e-8, seed=11, momentum=0.1,
              mean=[0.4, 0.6], deviation=[0.3, 0.2], channels=2)
CONFIGS = {
    "cnn": dict(COMMON, kind="cnn", height=8, width=12, classes=5, filters=0, norm_samples=2, batch=8, masked=True),
    "resnet18": dict(COMMON, kind="resnet18", height=9, width=8, classes=7, filters=4, norm_samples=4, batch=8, masked=False),
    "resnet50": dict(COMMON, kind="resnet50", height=16, width=13, classes=3, filters=3, norm_samples=8, batch=16, masked=True),
    "large": dict(COMMON, kind="resnet18", height=97, width=96, classes=4, filters=2, norm_samples=2, batch=4, masked=False),
}


class Cnn(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv1 = nn.Conv2d(c["channels"], 32, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32, momentum=c["momentum"])
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(64, momentum=c["momentum"])
        self.fc1 = nn.Linear(c["height"] // 4 * (c["width"] // 4) * 64, 128)
        self.fc2 = nn.Linear(128, c["classes"])

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        return self.fc2(F.relu(self.fc1(x.permute(0, 2, 3, 1).flatten(1))))


class Block(nn.Module):
    def __init__(self, c, inputs, width, stride, bottleneck):
        super().__init__()
        outputs = 4 * width if bottleneck else width
        shapes = [(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)] if bottleneck else [
            (inputs, width, 3, stride), (width, outputs, 3, 1)]
        self.count = len(shapes)
        for i, (a, b, size, step) in enumerate(shapes, 1):
            setattr(self, "conv%d" % i, nn.Conv2d(a, b, size, stride=step, padding=size // 2, bias=False))
            setattr(self, "bn%d" % i, nn.BatchNorm2d(b, momentum=c["momentum"]))
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False),
                                            nn.BatchNorm2d(outputs, momentum=c["momentum"]))

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, "bn%d" % i)(getattr(self, "conv%d" % i)(y))
            if i < self.count:
                y = F.relu(y)
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self, c):
        super().__init__()
        bottleneck, width = c["kind"] == "resnet50", c["filters"]
        self.small = min(c["height"], c["width"]) < 96
        self.conv1 = nn.Conv2d(c["channels"], width, 3 if self.small else 7, stride=1 if self.small else 2, padding=1 if self.small else 3,
                               bias=False)
        self.bn1 = nn.BatchNorm2d(width, momentum=c["momentum"])
        inputs = width
        for group, blocks in enumerate([3, 4, 6, 3] if bottleneck else [2, 2, 2, 2]):
            layers = []
            for block in range(blocks):
                layers.append(Block(c, inputs, width << group, 2 if group > 0 and block == 0 else 1, bottleneck))
                inputs = (width << group) * (4 if bottleneck else 1)
            setattr(self, "layer%d" % (group + 1), nn.Sequential(*layers))
        self.fc = nn.Linear(inputs, c["classes"])

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        if not self.small:
            x = F.max_pool2d(x, 3, stride=2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean(dim=(2, 3)))


def ours(tensor):
    return tensor.permute(0, 2, 3, 1) if tensor.dim() == 4 else tensor


def set_initial_weights(c, model):
    for name, p in model.named_parameters():
        if p.dim() == 1:
            continue  # ones and zeros
        shape = ours(p).shape
        if p.dim() == 4:
            variance = 2 / (shape[0] * shape[1] * shape[2])
        else:
            variance = (2 if name == "fc1.weight" else 1 / 3) / shape[1]
        value = np.sqrt(variance) * RandomStream(c["seed"], "init/" + name, 0).normal(p.numel())
        value = torch.from_numpy(value.reshape(shape))
        p.data.copy_(value.permute(0, 3, 1, 2) if p.dim() == 4 else value)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.bias.data.zero_()


def batch_of(c, step, dtype):
    """Images [batch, channels, height, width], normalised, and labels: one in five masked."""
    B, H, W, C = c["batch"], c["height"], c["width"], c["channels"]
    data = RandomStream(c["seed"], "layouts/images", step).bits(B * H * W * C).astype(np.int64) % 256
    x = (data.reshape(B, H, W, C) / 255.0 - np.array(c["mean"])) / np.array(c["deviation"])
    labels = RandomStream(c["seed"], "layouts/labels", step).bits(B).astype(np.int64) % c["classes"]
    if c["masked"]:
        labels[RandomStream(c["seed"], "layouts/mask", step).bits(B) % 5 == 0] = -1
    return torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).to(dtype), torch.from_numpy(labels)


def tensors(c, named):
    return {name: summary(c, name, ours(t).contiguous()) for name, t in named}


def run(c, dtype):
    model = (Cnn if c["kind"] == "cnn" else ResNet)(c).to(torch.float64)
    set_initial_weights(c, model)
    model = model.to(dtype)
    named = dict(model.named_parameters())
    groups = [dict(params=[p for p in named.values() if p.dim() > 1], weight_decay=c["weight_decay"]),
              dict(params=[p for p in named.values() if p.dim() == 1], weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, betas=(c["beta1"], c["beta2"]), eps=c["eps"])
    result = dict(losses=[], grad_norms=[])
    model.train()
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(c, step)
        optimizer.zero_grad()
        images, labels = batch_of(c, step, dtype)
        total = 0.0
        for first in range(0, c["batch"], c["norm_samples"]):
            of_group = slice(first, first + c["norm_samples"])
            loss = F.cross_entropy(model(images[of_group]), labels[of_group], ignore_index=-1, reduction="sum") / int((labels >= 0).sum())
            loss.backward()
            total += float(loss.detach())
        if step == 0 and dtype == torch.float64:
            result["gradients"] = tensors(c, ((name, p.grad) for name, p in named.items()))
        result["losses"].append(total)
        result["grad_norms"].append(float(torch.nn.utils.clip_grad_norm_(list(named.values()), c["clip"])))
        optimizer.step()
    if dtype == torch.float64:
        result["weights"] = tensors(c, named.items())
    result["states"] = tensors(c, ((name, b) for name, b in model.named_buffers() if "running" in name))
    model.eval()
    images, labels = batch_of(c, STEPS, dtype)
    with torch.no_grad():
        logits = model(images)
        result["evaluation"] = float(F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum"))
        result["hits"] = int((logits.argmax(dim=1) == labels).sum())
    return result


def main():
    check_philox()
    torch.set_num_threads(1)
    for name, c in CONFIGS.items():
        golden = dict(config=c, torch=torch.__version__, lr=[learning_rate(c, step) for step in range(STEPS)], f64=run(c, torch.float64))
        if name in ("cnn", "resnet18"):  # in the others f32's rounding turns ReLUs on and off
            golden["f32"] = run(c, torch.float32)
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "images_%s.json" % name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(to_json(golden) + "\n")
        print("%-24s %7d bytes  losses %s  norms %s  evaluation %s hits %s" % (
            os.path.basename(path), os.path.getsize(path), golden["f64"]["losses"], golden["f64"]["grad_norms"],
            golden["f64"]["evaluation"], golden["f64"]["hits"]))


if __name__ == "__main__":
    main()

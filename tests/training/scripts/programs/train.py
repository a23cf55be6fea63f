"""A typical training script: argparse, a loop, checkpoints, CSV and TensorBoard logs. Reprise runs it unchanged."""

import argparse
import csv
import json
import os
import random
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.tensorboard import SummaryWriter

from nets import build_net


def parse_args():
    parser = argparse.ArgumentParser(description="Train a classifier of points.")
    parser.add_argument("--lr", type=float, default=0.05, help="learning rate")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0, help="-1: do not seed")
    parser.add_argument("--data", default=None, help="folder with points.npz; default: drawn here")
    parser.add_argument("--out", default="results", help="folder of the outputs")
    parser.add_argument("--sleep", type=float, default=0.0, help="seconds to wait in each epoch")
    parser.add_argument("--crash", action="store_true", help="fail after the first epoch")
    parser.add_argument("--outside", default=None, help="another file to write")
    return parser.parse_args()


def load_data(args):
    if args.data is not None:
        with np.load(os.path.join(args.data, "points.npz")) as file:
            return file["points"], file["labels"]
    random = np.random.default_rng(7)
    points = random.normal(size=(1600, 64)).astype(np.float32)
    return points, (points @ random.normal(size=(64, 10))).argmax(1)


def make_loaders(args):
    points, labels = load_data(args)
    points, labels = torch.from_numpy(points), torch.from_numpy(labels)
    train = TensorDataset(points[:1200], labels[:1200])
    test = TensorDataset(points[1200:], labels[1200:])
    return DataLoader(train, args.batch_size, shuffle=True), DataLoader(test, 256)


def train_epoch(net, loader, optimizer):
    net.train()
    total = 0.0
    for points, labels in loader:
        loss = F.cross_entropy(net(points), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
    return total / len(loader.dataset)


@torch.no_grad()
def evaluate(net, loader):
    net.eval()
    correct = sum((net(points).argmax(1) == labels).sum().item() for points, labels in loader)
    return correct / len(loader.dataset)


def main():
    args = parse_args()
    if args.seed >= 0:
        random.seed(args.seed)
        np.random.seed(args.seed)
        torch.manual_seed(args.seed)
    os.makedirs(args.out, exist_ok=True)
    with open(os.path.join(args.out, "args.json"), "w") as file:
        json.dump(vars(args), file, indent=2)
    train, test = make_loaders(args)
    net = build_net(args.width)
    optimizer = torch.optim.SGD(net.parameters(), lr=args.lr, momentum=0.9)
    writer = SummaryWriter(os.path.join(args.out, "tensorboard"))
    log = open(os.path.join(args.out, "metrics.csv"), "w", newline="")
    rows = csv.writer(log)
    rows.writerow(["epoch", "train_loss", "test_accuracy"])
    started = time.time()
    for epoch in range(args.epochs):
        loss, accuracy = train_epoch(net, train, optimizer), evaluate(net, test)
        rows.writerow([epoch, loss, accuracy])
        log.flush()
        writer.add_scalar("loss/train", loss, epoch)
        writer.add_scalar("accuracy/test", accuracy, epoch)
        torch.save({"net": net.state_dict(), "args": vars(args)}, os.path.join(args.out, "last.pt"))
        print(f"epoch {epoch}: loss {loss:.4f}, accuracy {accuracy:.4f}")
        time.sleep(args.sleep)
        if args.crash:
            raise RuntimeError("the disk of the cluster is gone")
    if args.outside is not None:
        with open(args.outside, "w") as file:
            file.write("a file elsewhere")
    log.close()
    writer.close()
    print(f"done in {time.time() - started:.1f} s")


if __name__ == "__main__":
    main()

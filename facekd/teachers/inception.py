"""facenet-pytorch's InceptionResnetV1 from a local weights file, as a teacher; nothing is downloaded.

The file is the state dict that facenet-pytorch publishes, such as ``20180402-114759-vggface2.pt``: a pickle. It is
read by torch's own reader of tensors, which knows no other object and calls nothing.

The network was trained on 160-pixel crops cut at MTCNN's boxes. Here it is given what the student sees, 112-pixel
crops on the arcface template, and enlarges them itself: as a teacher it is worth what it is worth on those, which is
not what its authors measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facekd.core.contract import Contract
from facekd.core.files import sha256_file
from facekd.errors import UserError

PICKLED = (".pt", ".pth")  # suffixes of the file
SIZE = 160  # pixels that the network was trained on
CLASSIFIER = "logits."  # of the people it was trained on; not needed
COUNTERS = "num_batches_tracked"  # of norms; older files have none


class Enlarged(nn.Module):
    """A network behind a bilinear enlargement to SIZE pixels."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """float32[B, 512] of unit norm from float32[B, 3, S, S]."""
        images = F.interpolate(images_BCHW, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
        embeddings: Tensor = self.net(images)
        return embeddings


def load_inception(path: Path) -> tuple[nn.Module, Contract]:
    """The network, in eval mode, and what it expects of a crop.

    Raises:
        UserError: no such file, a file that holds more than tensors, or the tensors of another network.
    """
    weights = _read_tensors(path)
    # torchvision, which facenet-pytorch imports, may not load as it is.
    from facekd.faces.torchvision_cpu import repair

    repair()
    from facenet_pytorch import InceptionResnetV1

    net = InceptionResnetV1(pretrained=None)
    own = {name: value for name, value in weights.items() if not name.startswith(CLASSIFIER)}
    wanted = {name: value.shape for name, value in net.state_dict().items()}
    wrong = [name for name in wanted if name not in own and not name.endswith(COUNTERS)]
    wrong += [name for name, value in own.items() if wanted.get(name) != value.shape]
    if wrong:
        raise UserError(
            f"{path}: is not facenet-pytorch's InceptionResnetV1 ({wrong[0]} and {len(wrong) - 1} others are missing, "
            "unknown or of another shape); export any other network to ONNX and give that"
        )
    net.load_state_dict(own, strict=False)
    # Its own scale is (pixels - 127.5) / 128; 127.5 is the contract's default.
    contract = Contract(dim=512, std=(128.0, 128.0, 128.0), weights_sha256=sha256_file(path))
    return Enlarged(net).eval(), contract


def _read_tensors(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise UserError(f"{path}: no such weights file; check the path")
    try:
        # weights_only: the pickle is read by torch's own reader of tensors, which runs nothing.
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged pickles fail in every way there is
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{path}: holds something else than tensors, or is damaged, and facekd runs no pickle ({first}); give a "
            "file of torch.save(net.state_dict(), …)"
        ) from error
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"{path}: holds no state dict; give a file of torch.save(net.state_dict(), …)")
    return found

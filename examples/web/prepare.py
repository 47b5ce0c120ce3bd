"""Put into models/ what the page loads: the detector, the network that measures its points again, and a student.

    python examples/web/prepare.py [STUDENT.onnx]     # without one the model that comes with facekd

student.json says what student.onnx expects of a crop, and from which score on two faces are taken for one person's: the
threshold that the file carries for a false accept rate of 1 in 1,000.
"""

import json
import shutil
import sys
from pathlib import Path

import onnx

from facekd.core.contract import Contract
from facekd.deploy.default import default_model
from facekd.deploy.embedder import CropEmbedder
from facekd.deploy.thresholds import USUAL_FAR, model_thresholds
from facekd.errors import UserError
from facekd.faces import refine, yunet

MODELS = Path(__file__).parent / "models"


def detector() -> onnx.ModelProto:
    """YuNet for photos of any size: its file says 640 x 640, which its graph does not need."""
    model = onnx.load(str(yunet.WEIGHTS))
    del model.graph.value_info[:]
    height, width = model.graph.input[0].type.tensor_type.shape.dim[2:]
    height.dim_param, width.dim_param = "height", "width"
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[1].dim_param = f"places_{output.name}"
    return model


def about(student: Path, contract: Contract) -> dict[str, object]:
    if contract.flip or contract.template != "arcface":
        sys.exit(f"{student}: the page embeds each crop once, on the arcface template; give a student without flip")
    if onnx.load(str(student)).graph.input[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        sys.exit(f"{student}: takes no float32; export it without --uint8-input")
    thresholds = model_thresholds(student, contract)
    if USUAL_FAR not in thresholds:
        sys.exit(f"{student}: has no threshold at a false accept rate of {USUAL_FAR:g}; export it with --pairs")
    return {
        "model_id": contract.model_id,
        "contract": json.loads(contract.to_json()),
        "far": USUAL_FAR,
        "threshold": thresholds[USUAL_FAR],
    }


def main() -> None:
    student = Path(sys.argv[1]) if len(sys.argv) > 1 else default_model()
    try:
        text = json.dumps(about(student, CropEmbedder.load(student).contract), indent=2)
    except UserError as error:
        sys.exit(str(error))
    MODELS.mkdir(exist_ok=True)
    onnx.save(detector(), str(MODELS / "detector.onnx"))
    shutil.copyfile(refine.WEIGHTS, MODELS / "points.onnx")
    shutil.copyfile(student, MODELS / "student.onnx")
    (MODELS / "student.json").write_text(text + "\n", encoding="utf-8")
    print(f"{MODELS}: {sum(path.stat().st_size for path in MODELS.iterdir()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

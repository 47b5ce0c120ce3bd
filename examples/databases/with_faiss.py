"""Embeddings in FAISS: the index keeps int_id, and the Parquet file says whose each is.

pip install faiss-cpu pyarrow
python with_faiss.py embeddings.parquet
"""

import sys

import faiss
import numpy as np
import pyarrow.parquet as pq


def build(file):
    """An exact index over inner products, which are cosines of unit vectors. faiss.write_index keeps it in a file."""
    table = pq.read_table(file, columns=["int_id", "embedding"])
    vectors = np.stack(table["embedding"].to_numpy())
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(vectors.shape[1]))
    index.add_with_ids(vectors, table["int_id"].to_numpy())
    return index


def search(file, query, k=5):
    """The k rows that are most alike to the row with id `query`: id and cosine."""
    table = pq.read_table(file, columns=["id", "int_id", "embedding"])
    ids = dict(zip(table["int_id"].to_pylist(), table["id"].to_pylist(), strict=True))
    one = table["embedding"][table["id"].index(query).as_py()].as_py()
    scores, found = build(file).search(np.array([one], np.float32), k)
    return [(ids[int_id], score) for int_id, score in zip(found[0].tolist(), scores[0], strict=True) if int_id >= 0]


if __name__ == "__main__":
    first = pq.read_table(sys.argv[1], columns=["id"])["id"][0].as_py()
    for one, score in search(sys.argv[1], first):
        print(f"{score:.4f}  {one}")
